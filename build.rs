//! Tells the linker how the program lies in its file, on Linux. Generates nothing.

/// The segments lie in memory as they do in the file, modulo 64 KB. Linux maps a program that much at a time around
/// a page that is touched ("fault-around"); where the two do not agree, each time touches two folios of the
/// page cache and maps both. That took 2 MB of 15 in seven starts of eight.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,max-page-size=65536");
    }
}
