import { Messenger, Session } from "@posthouse/client";

const { POSTHOUSE_URL, BOT_USER, BOT_PASSWORD } = process.env;
const bot = await new Messenger(POSTHOUSE_URL!).signIn(BOT_USER!, BOT_PASSWORD!);
const session = new Session(bot);
session.on("entry", ({ message }) => {
    if (message.kind === "text" && message.sender !== bot.user) {
        void session.send(message.chat, {
            kind: "text",
            body: `You said: ${message.body}`,
            replyTo: message.seq,
        });
    }
});
for (const chat of await bot.chats()) session.follow(chat.chat_id);
