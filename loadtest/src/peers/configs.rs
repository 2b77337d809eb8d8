//! What nginx, HAProxy and Envoy are told, so that they do what the activator does.
//!
//! Invariant: keep-alive on both sides, nothing buffered to disk, no access log, one thread; the fields that are added and the
//! limits are those of the scenario.

use super::scenario::{Shape, Traffic, Wire};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// Clients' connections that each of them takes.
const CONNECTIONS_MAX: usize = 4096;
/// nginx counts those to upstreams as well, and keeps idle ones for each service.
const NGINX_CONNECTIONS_MAX: usize = 16_384;

/// nginx: one worker. It has no queue for a limit of requests at a time, and runs without.
pub(super) fn nginx(folder: &Path, listen: SocketAddr, backend: SocketAddr, shape: &Shape) -> String {
    let folder = folder.display();
    // Started as root the worker would change its user and could not write into the folder.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let h2 = if matches!(shape.wire, Wire::H2 { .. }) { " http2" } else { "" };
    let stream = if matches!(shape.traffic, Traffic::Events { .. }) { "proxy_buffering off;" } else { "" };
    let forwarding = if shape.forwarding {
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;"
    } else {
        ""
    };
    let mut servers = String::new();
    for (number, host) in shape.hosts().iter().enumerate() {
        let _ = write!(
            servers,
            "
  upstream backend{number} {{ server {backend}; keepalive 64; keepalive_timeout 1h; keepalive_requests 1000000000; }}
  server {{
    listen {listen}{h2}{};
    server_name {host};
    location / {{
      proxy_pass http://backend{number};
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
      {forwarding}
      {stream}
    }}
  }}",
            if number == 0 { " backlog=4096" } else { "" }
        );
    }
    format!(
        "{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log error;
events {{ worker_connections {NGINX_CONNECTIONS_MAX}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_timeout 1h; keepalive_requests 1000000000;
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
  server_names_hash_max_size 8192; server_names_hash_bucket_size 128;{servers}
}}
"
    )
}

/// HAProxy: one thread. `hosts` is the file that [`haproxy_hosts`] fills.
pub(super) fn haproxy(hosts: &Path, listen: SocketAddr, backend: SocketAddr, shape: &Shape) -> String {
    let h2 = if matches!(shape.wire, Wire::H2 { .. }) { " proto h2" } else { "" };
    let forwarding = if shape.forwarding {
        "option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]"
    } else {
        ""
    };
    // Else it waits for more before it sends on what it has of a stream.
    let stream = if matches!(shape.traffic, Traffic::Events { .. }) { "option http-no-delay" } else { "" };
    let limit = if shape.limit > 0 { format!(" maxconn {}", shape.limit) } else { String::new() };
    let (hosts, mut backends) = (hosts.display(), String::new());
    for number in 0..shape.services {
        let _ = write!(backends, "\nbackend back{number}\n  server s {backend}{limit}");
    }
    let choice = if shape.services == 1 {
        "default_backend back0".to_owned()
    } else {
        format!("use_backend %[req.hdr(host),lower,map({hosts})]")
    };
    format!(
        "global
  nbthread 1
  maxconn {CONNECTIONS_MAX}
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout queue 1m
  timeout http-keep-alive 1h
  option http-keep-alive
  http-reuse always
  {stream}
frontend front
  bind {listen}{h2} backlog 4096
  {forwarding}
  {choice}{backends}
"
    )
}

/// Which backend each host means.
pub(super) fn haproxy_hosts(shape: &Shape) -> String {
    shape.hosts().iter().enumerate().map(|(number, host)| format!("{host} back{number}\n")).collect()
}

/// Envoy: one worker thread beside its main thread. JSON, which it reads as YAML's subset.
pub(super) fn envoy(listen: SocketAddr, backend: SocketAddr, shape: &Shape) -> Value {
    let address =
        |of: SocketAddr| json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } });
    let most = CONNECTIONS_MAX;
    let connections = if shape.limit > 0 { shape.limit } else { most };
    let cluster = |number: usize| {
        json!({
            "name": format!("back{number}"), "type": "STATIC", "connect_timeout": "5s",
            "circuit_breakers": { "thresholds": [{
                "max_connections": connections, "max_pending_requests": most, "max_requests": most, "max_retries": most,
            }] },
            "load_assignment": { "cluster_name": format!("back{number}"), "endpoints": [{
                "lb_endpoints": [{ "endpoint": { "address": address(backend) } }],
            }] },
        })
    };
    let added = if shape.forwarding {
        json!([{ "header": { "key": "x-forwarded-host", "value": "%REQ(:authority)%" } }])
    } else {
        json!([])
    };
    let hosts = shape.hosts();
    let virtual_host = |(number, host): (usize, &String)| {
        json!({
            "name": host, "domains": [host],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": format!("back{number}"), "timeout": "0s" } }],
        })
    };
    let codec = if matches!(shape.wire, Wire::H2 { .. }) { "HTTP2" } else { "HTTP1" };
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench", "codec_type": codec, "generate_request_id": false,
        "use_remote_address": shape.forwarding, "skip_xff_append": !shape.forwarding,
        "server_header_transformation": "PASS_THROUGH", "stream_idle_timeout": "0s",
        "http_filters": [{ "name": "envoy.filters.http.router",
            "typed_config": { "@type": router, "suppress_envoy_headers": true, "dynamic_stats": false } }],
        "route_config": { "name": "bench", "request_headers_to_add": added,
            "virtual_hosts": hosts.iter().enumerate().map(virtual_host).collect::<Vec<_>>() },
    });
    json!({
        "static_resources": {
            "listeners": [{
                "name": "bench", "address": address(listen), "tcp_backlog_size": 4096,
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
                }] }],
            }],
            "clusters": (0..shape.services).map(cluster).collect::<Vec<_>>(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::scenario::Scenario;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn every_service_has_its_upstream_and_fields_are_added_only_where_asked() {
        let (listen, backend) = (address(1), address(2));
        let ten = Scenario::Ten.shape();
        assert_eq!(nginx(Path::new("/f"), listen, backend, &ten).matches("proxy_pass").count(), 10);
        assert_eq!(haproxy(Path::new("/f"), listen, backend, &ten).matches("\nbackend").count(), 10);
        assert_eq!(haproxy_hosts(&ten).lines().nth(3), Some("bench-3.default.example.com back3"));
        assert_eq!(envoy(listen, backend, &ten)["static_resources"]["clusters"].as_array().map(Vec::len), Some(10));
        let plain = Scenario::Plain.shape();
        let all = [
            nginx(Path::new("/f"), listen, backend, &plain),
            haproxy(Path::new("/f"), listen, backend, &plain),
            envoy(listen, backend, &plain).to_string(),
        ];
        assert!(
            all.iter().all(|config| !config.to_lowercase().contains("x-forwarded") && !config.contains("forwardfor"))
        );
        assert!(haproxy(Path::new("/f"), listen, backend, &Scenario::Limited.shape()).contains(" maxconn 10"));
    }
}
