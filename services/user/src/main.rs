kit::main!(user::User);
