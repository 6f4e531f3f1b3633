kit::main!(presence::Presence);
