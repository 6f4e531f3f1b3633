kit::main!(web::Web);
