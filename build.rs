//! Tells the program which commit it was built from.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs");
    println!("cargo:rerun-if-env-changed=PORTCULLIS_COMMIT");
    let given = std::env::var("PORTCULLIS_COMMIT").ok();
    let asked = || {
        let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // A source archive has no commit; the version alone must do.
    println!("cargo:rustc-env=PORTCULLIS_COMMIT={}", given.or_else(asked).unwrap_or_else(|| "unknown".to_owned()));
}
