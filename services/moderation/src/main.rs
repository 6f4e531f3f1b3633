kit::main!(moderation::Moderation);
