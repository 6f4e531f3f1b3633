//! Embeds the built console; `npm run build` in `clients/console` does it by hand.

#[path = "../services/pages/embed.rs"]
mod embed;

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../services/pages/embed.rs");
    embed::embed("../clients/console/dist", "src/console/unbuilt.html")
}
