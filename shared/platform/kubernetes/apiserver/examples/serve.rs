//! An API server to try kubectl on: `cargo run -p apiserver --example serve -- 127.0.0.1:8001`, then
//! `kubectl --server http://127.0.0.1:8001 get namespaces`. With `controllers` behind the address it has the controllers of a
//! cluster too, no node, and a memory of 64 changes.

use apiserver::controllers::{Cluster, ClusterOptions};
use apiserver::{Options, Server};
use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(&address).await?;
        writeln!(io::stdout(), "http://{}", listener.local_addr()?)?;
        let has_controllers = std::env::args().nth(2).is_some_and(|word| word == "controllers");
        let options = Options::real_time();
        let history_events_max = if has_controllers { 64 } else { options.history_events_max };
        let server = Server::new(Options { history_events_max, ..options });
        let without_nodes = ClusterOptions { nodes: Vec::new(), ..ClusterOptions::default() };
        let _cluster = has_controllers.then(|| Cluster::start(server.clone(), without_nodes));
        server.serve(listener).await
    })
}
