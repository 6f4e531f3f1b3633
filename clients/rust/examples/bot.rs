use posthouse_client::{DeviceId, EntryKind, Event, Identity, Messenger, Post, Session};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messenger = Messenger::new(&std::env::var("POSTHOUSE_URL")?.parse()?)?;
    let bot =
        Identity::sign_in(&messenger, &std::env::var("BOT_USER")?, &std::env::var("BOT_PASSWORD")?).await?;
    let (session, mut events) = Session::open(bot.clone(), DeviceId::generate());
    for chat in messenger.chats(&bot.token().await?).await? {
        session.follow(chat.chat_id, 0).await;
    }
    while let Some(event) = events.recv().await {
        let Event::Entry { message, .. } = event else { continue };
        if message.kind == EntryKind::Text && message.sender != bot.user() {
            let post = Post::reply(message.seq, format!("You said: {}", message.body));
            let sent = session.send(message.chat, post);
            tokio::spawn(async move { sent.await.inspect_err(|refused| eprintln!("not sent: {refused}")) });
        }
    }
    Ok(())
}
