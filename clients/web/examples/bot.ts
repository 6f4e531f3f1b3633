import { Messenger, Session } from "@posthouse/client";

const { POSTHOUSE_URL, BOT_USER, BOT_PASSWORD } = process.env;
const bot = await new Messenger(POSTHOUSE_URL!).signIn(BOT_USER!, BOT_PASSWORD!);
const session = new Session(bot);
session.on("entry", ({ message }) => {
    if (message.kind === "text" && message.sender !== bot.user) {
        const body = `You said: ${message.body}`;
        session.send(message.chat, { kind: "text", body, replyTo: message.seq }).catch(console.error);
    }
});
for (const chat of await bot.chats()) session.follow(chat.chat_id);
