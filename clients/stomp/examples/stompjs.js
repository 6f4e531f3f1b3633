import { Client } from "@stomp/stompjs";

const { BROKER_URL, ACCESS_TOKEN, DEVICE, CHAT } = process.env;
const client = new Client({
    brokerURL: BROKER_URL, // wss://acme.example.com/ws
    connectHeaders: { passcode: ACCESS_TOKEN, device: DEVICE },
    onConnect: () => {
        client.subscribe("/replies", (reply) => console.log(reply.headers.type, reply.body));
        client.subscribe(`/chats/${CHAT}`, ({ headers, body }) => console.log(headers.type, body));
        client.publish({ destination: `/chats/${CHAT}`, headers: { key: crypto.randomUUID() }, body: "hello" });
    },
});
client.activate();
