//! Prints the documentation that is made from the tables of keys: one of its parts.
//!
//! ```text
//! cargo run -p domain --example docs -- annotations   > docs/annotations.md
//! cargo run -p domain --example docs -- config        > docs/config.md
//! cargo run -p domain --example docs -- config-map    > config/config-autoscaler.yaml
//! cargo run -p domain --example docs -- activator     > docs/config-activator.md
//! cargo run -p domain --example docs -- activator-map > config/config-activator.yaml
//! ```

#[expect(clippy::print_stdout, reason = "printing is what it is for")]
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("annotations") => print!("{}", domain::annotations::docs::annotations()),
        Some("config") => print!("{}", domain::annotations::docs::config()),
        Some("config-map") => print!("{}", domain::annotations::docs::config_map()),
        Some("activator") => print!("{}", domain::annotations::docs::activator()),
        Some("activator-map") => print!("{}", domain::annotations::docs::activator_map()),
        _ => println!("usage: docs annotations|config|config-map|activator|activator-map"),
    }
}
