kit::main!(auth::Auth);
