kit::main!(message::Message);
