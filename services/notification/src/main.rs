kit::main!(notification::Notification);
