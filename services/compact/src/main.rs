/// As in the gateway: glibc's allocator would keep the burst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> impl std::process::Termination {
    compact::main()
}
