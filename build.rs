//! Tells the linker how the program lies in its file, on Linux. Generates nothing.
//!
//! Linux maps a program 64 KB at a time around a page of 4 KB that is touched ("fault-around"), so that the
//! memory a server takes at idle is decided by what lies beside what it runs.

use std::env;

/// The functions that a start runs. They are 8 % of the program and lie in half of its 64 KB pieces unless they are
/// laid side by side: 13.4 MB at idle without this file, 9 with it. `link/start.py` writes it.
const START: &str = "link/start.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={START}");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        // The segments lie in memory as they do in the file, modulo 64 KB. Where the two do not agree, each
        // time touches two folios of the page cache and maps both: 2 MB of 15 in seven starts of eight.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,max-page-size=65536");
        if is_release() && !has_linker_of_its_own() {
            let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
            println!("cargo::rustc-link-arg-bins=-T{root}/{START}");
        }
    }
}

fn is_release() -> bool {
    env::var("PROFILE").is_ok_and(|profile| profile == "release")
}

/// Whether somebody chose another linker than Rust's: GNU's and LLVM's read such a file, and not all do.
fn has_linker_of_its_own() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    env::var_os("RUSTC_LINKER").is_some() || flags.contains("link")
}
