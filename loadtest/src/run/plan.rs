//! What every request of a run looks like.

use crate::values;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The flags that describe a request.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RequestArgs {
    /// Where to, such as http://localhost:8080/v1/models/custom-model:predict.
    url: Uri,
    /// Method. Default GET, or POST with a body.
    #[arg(long, short = 'X')]
    method: Option<Method>,
    /// Body, or @FILE.
    #[arg(long, short = 'd')]
    body: Option<String>,
    /// A header, as `name: value`; may be repeated.
    #[arg(long = "header", short = 'H', value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The Host header. Default: the URL's.
    #[arg(long)]
    host: Option<String>,
    /// Reads server-sent events; a stream must end with `data: [DONE]`, or it was cut.
    #[arg(long)]
    streaming: bool,
    /// Speaks HTTP/2 without TLS, by prior knowledge.
    #[arg(long)]
    http2: bool,
    /// With --http2: connections that the requests share.
    #[arg(long, default_value_t = 1, requires = "http2")]
    connections: usize,
    /// How long one request may take, connecting included.
    #[arg(long, default_value = "5m", value_parser = values::duration)]
    timeout: Duration,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text:?} is not `name: value`"))?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is no header name"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} is no header value"))?;
    Ok((name, value))
}

/// Every request of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where connections go.
    pub address: SocketAddr,
    /// Speaks HTTP/2.
    pub http2: bool,
    /// Connections that HTTP/2 requests share.
    pub connections: usize,
    /// Checks that event streams end properly.
    pub streaming: bool,
    /// How long one request may take.
    pub timeout: Duration,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Plan {
    /// A GET of `path` on `address`, for tests and helpers.
    ///
    /// # Errors
    ///
    /// The path is no path.
    pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(&address.to_string())?);
        Ok(Self {
            address,
            http2: false,
            connections: 1,
            streaming: false,
            timeout: Duration::from_secs(30),
            method: Method::GET,
            uri: path.parse()?,
            headers,
            body: Bytes::new(),
        })
    }

    /// The same with a POST of `body`, as JSON.
    #[must_use]
    pub fn posting(mut self, body: impl Into<Bytes>) -> Self {
        self.method = Method::POST;
        self.body = body.into();
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    /// The same with another Host header.
    ///
    /// # Errors
    ///
    /// `host` is no header value.
    pub fn for_host(mut self, host: &str) -> anyhow::Result<Self> {
        self.headers.insert(HOST, HeaderValue::from_str(host)?);
        Ok(self)
    }

    /// What the flags say.
    pub(super) async fn new(args: &RequestArgs) -> anyhow::Result<Self> {
        if args.url.scheme_str().is_some_and(|scheme| scheme != "http") {
            bail!("only http:// is spoken");
        }
        let Some(authority) = args.url.authority() else {
            bail!("the URL needs a host, such as http://localhost:8080/")
        };
        let port = authority.port_u16().unwrap_or(80);
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let mut addresses =
            tokio::net::lookup_host((name, port)).await.with_context(|| format!("cannot resolve {name}"))?;
        let address = addresses.next().with_context(|| format!("{name} has no address"))?;
        let body = match args.body.as_deref() {
            None => None,
            Some(text) => Some(match text.strip_prefix('@') {
                Some(file) => Bytes::from(std::fs::read(Path::new(file)).with_context(|| file.to_owned())?),
                None => Bytes::from(text.to_owned()),
            }),
        };
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("loadtest"));
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(HOST, HeaderValue::from_str(args.host.as_deref().unwrap_or(authority.as_str()))?);
        for (name, value) in &args.headers {
            headers.insert(name, value.clone());
        }
        let path = args.url.path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = if args.http2 {
            // HTTP/2 carries the host in `:authority`.
            let host = headers.remove(HOST).context("no host")?;
            Uri::builder().scheme("http").authority(host.as_bytes()).path_and_query(path).build()?
        } else {
            path.parse()?
        };
        Ok(Self {
            address,
            http2: args.http2,
            connections: args.connections.max(1),
            streaming: args.streaming,
            timeout: args.timeout,
            method: args.method.clone().unwrap_or_else(|| if body.is_some() { Method::POST } else { Method::GET }),
            uri,
            headers,
            body: body.unwrap_or_default(),
        })
    }

    /// One request.
    pub(super) fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_split_at_the_first_colon() {
        let (name, value) = header("X-Url: http://a").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-url", "http://a"));
        assert!(header("no colon").is_err());
        assert!(header("bad name: x").is_err());
    }
}
