//! Embeds the built web client; `npm run build` in `clients/app` does it by hand.

#[path = "../pages/embed.rs"]
mod embed;

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../pages/embed.rs");
    embed::embed("../../clients/app/dist", "src/unbuilt.html")
}
