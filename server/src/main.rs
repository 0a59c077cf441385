//! The binary `postrider`.

use std::process::ExitCode;

mod cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    take_memory_in_small_pages();
    cli::main()
}

/// Linux gives memory out in pieces of 2 MiB where it may, also to those who write a few KiB into each: an idle server with 10,000 subscriptions
/// took 66 MiB, and takes 44 without, and is no slower.
#[cfg(target_os = "linux")]
fn take_memory_in_small_pages() {
    // Who is not allowed to ask for it takes more.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
