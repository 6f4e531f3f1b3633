/// Thousands of connections come and go; glibc's allocator would keep the burst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

kit::main!(gateway::Gateway);
