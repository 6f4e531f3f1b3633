kit::main!(search::SearchService);
