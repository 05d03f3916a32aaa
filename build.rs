//! Puts the built admin UI where `admin::ui` embeds it from: what WSGATEWAY_UI_DIST names, as ./run and ./test set it, else
//! ui/dist. Without either the program is built all the same, and says that it has no UI.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=WSGATEWAY_UI_DIST");
    println!("cargo:rerun-if-changed=build.rs");
    let dist = env::var_os("WSGATEWAY_UI_DIST").map_or_else(|| PathBuf::from("ui/dist"), PathBuf::from);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("ui");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    if dist.is_dir() {
        // A path that is not there would have this run at every build.
        println!("cargo:rerun-if-changed={}", dist.display());
        copy(&dist, &out)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
