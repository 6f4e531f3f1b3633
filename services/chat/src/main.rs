kit::main!(chat::Chat);
