//! An API server to try kubectl on: `cargo run -p apiserver --example serve -- 127.0.0.1:8001`, then
//! `kubectl --server http://127.0.0.1:8001 get namespaces`.

use apiserver::{Options, Server};
use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(&address).await?;
        writeln!(io::stdout(), "http://{}", listener.local_addr()?)?;
        Server::new(Options::real_time()).serve(listener).await
    })
}
