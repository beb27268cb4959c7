# The commands that one types. `just` lists them; it is installed by `cargo install just` or `pip install rust-just`.
_default:
    @just --list --unsorted

# Lint and format, as CI does
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Run the tests; arguments go to cargo test
test *ARGUMENTS:
    cargo test {{ ARGUMENTS }}

# Make a simulated call, from an empty account to its result
demo:
    cargo run -- demo

# Write the snapshots and the generated parts of the documents; read the difference before you commit it
update:
    UPDATE_DOCS=1 INSTA_UPDATE=always cargo test

# Run everything that CI runs
ci:
    .ci/run

# Report the share of one-word function names and the type names that are defined twice
names *ARGUMENTS:
    scripts/names {{ ARGUMENTS }}

# Count the lines of code of each crate
lines *ARGUMENTS:
    scripts/lines {{ ARGUMENTS }}

# Find import circles between files and between folders
cycles *ARGUMENTS:
    scripts/cycles {{ ARGUMENTS }}

# Check the spelling of code and documents
spelling:
    scripts/check-spelling

# Check licenses, sources, duplicates, minimum Rust versions and advisories of the dependencies
dependencies:
    scripts/check-dependencies
