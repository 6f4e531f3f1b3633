kit::main!(media::Media);
