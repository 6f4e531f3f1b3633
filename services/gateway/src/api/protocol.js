const main = document.querySelector("main");
// Text only ever goes in as text.
const add = (parent, tag, text) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
};
const rows = (parent, head, lines) => {
  const table = add(parent, "table");
  for (const [index, line] of [head, ...lines].entries()) {
    const row = add(table, "tr");
    for (const cell of line) add(row, index ? "td" : "th", cell);
  }
};
fetch("/docs/gateway/asyncapi.json").then(answer => answer.json()).then(doc => {
  main.replaceChildren();
  add(main, "h1", doc.info.title);
  for (const part of doc.info.description.split("\n\n")) add(main, "p", part);
  const section = (title, action) => {
    add(main, "h2", title);
    for (const operation of Object.values(doc.operations).filter(one => one.action === action)) {
      for (const { $ref } of operation.messages) {
        const message = doc.components.messages[$ref.split("/").pop()];
        add(main, "h3", message.name);
        add(main, "p", message.summary);
        for (const example of message.examples ?? []) add(main, "pre", JSON.stringify(example.payload, null, 2));
      }
    }
  };
  section("From the client", "receive");
  section("From the server", "send");
  add(main, "h2", "Close codes");
  add(main, "p", "3000 to 3499: reconnect, after a random wait. 3500 to 3999: do not.");
  rows(main, ["Code", "Reason", "Meaning", "What to do"],
    [...doc["x-close-codes"], ...doc["x-websocket-close-codes"]].map(one => [one.code, one.reason ?? "", one.meaning, one.do]));
  add(main, "h2", "Error codes");
  add(main, "p", "The same over WebSocket, REST and gRPC. REST carries the code in a problem body, with the HTTP status.");
  rows(main, ["Code", "Temporary", "HTTP", "gRPC", "Meaning"],
    doc["x-error-codes"].map(one => [one.code, one.temporary ? "yes" : "no", one.http, one.grpc, one.meaning]));
  add(main, "h2", "Encodings");
  rows(main, ["Subprotocol", "Content type", "Frames", "Ids"],
    doc["x-encodings"].map(one => [one.subprotocol, one.contentType, one.frames, one.ids]));
  add(main, "p", "The numbers of names in posthouse.v1.cbor, from 0 on:");
  add(main, "p", doc["x-names"].map((name, number) => `${number} ${name}`).join(", "));
  add(main, "h2", "Limits");
  rows(main, ["Limit", "Value"], Object.entries(doc["x-limits"]));
});
