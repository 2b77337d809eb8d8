//! gRPC, with tonic on both sides: all four kinds of call, errors, metadata, deadlines, cancellation.

use crate::rig::{Rig, limits, set};
use crate::wire::{eventually, soon};
use domain::{Limits, Protocol};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use runtime::Tasks;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::NamedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// The only message of the service.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Word {
    #[prost(string, tag = "1")]
    text: String,
}

fn word(text: impl ToString) -> Word {
    Word { text: text.to_string() }
}

type Words = BoxStream<'static, Result<Word, Status>>;

/// A service with one method of each kind.
#[derive(Clone, Default)]
struct Echo {
    /// What calls brought with them.
    metadata: Arc<Mutex<Vec<MetadataMap>>>,
    /// A call that never ends was given up.
    cancelled: Arc<AtomicBool>,
}

impl NamedService for Echo {
    const NAME: &'static str = "kpa.test.Echo";
}

fn codec() -> ProstCodec<Word, Word> {
    ProstCodec::default()
}

/// Says so when it is dropped.
struct Cancelled(Arc<AtomicBool>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(codec());
            let path = request.uri().path().to_owned();
            Ok(match path.rsplit('/').next().unwrap_or_default() {
                "Unary" => grpc.unary(service_fn(|call| this.unary(call)), request).await,
                "Collect" => grpc.client_streaming(service_fn(|call| this.collect(call)), request).await,
                "Count" => grpc.server_streaming(service_fn(|call| this.count(call)), request).await,
                "Chat" => grpc.streaming(service_fn(Self::chat), request).await,
                _ => Status::unimplemented(path).into_http(),
            })
        })
    }
}

impl Echo {
    /// The same word, with a metadata entry of either kind; "fail" is an error.
    async fn unary(&self, call: Request<Word>) -> Result<Response<Word>, Status> {
        self.metadata.lock().push(call.metadata().clone());
        if call.get_ref().text == "fail" {
            let mut metadata = MetadataMap::new();
            metadata.insert("x-why", MetadataValue::from_static("asked"));
            return Err(Status::with_metadata(Code::FailedPrecondition, "no ü, 100 %", metadata));
        }
        let mut answer = Response::new(call.into_inner());
        answer.metadata_mut().insert("x-plain", MetadataValue::from_static("answer"));
        answer.metadata_mut().insert_bin("x-raw-bin", MetadataValue::from_bytes(&[0, 255, 13, 10]));
        Ok(answer)
    }

    /// All words in one.
    async fn collect(&self, call: Request<Streaming<Word>>) -> Result<Response<Word>, Status> {
        let words: Vec<_> = call.into_inner().map(|word| word.map(|word| word.text)).collect().await;
        Ok(Response::new(word(words.into_iter().collect::<Result<Vec<_>, _>>()?.join(","))))
    }

    /// As many words as the call names, and an error in the trailers; after "endless" one word, and then nothing.
    async fn count(&self, call: Request<Word>) -> Result<Response<Words>, Status> {
        if call.get_ref().text == "endless" {
            let given_up = Cancelled(Arc::clone(&self.cancelled));
            let silence = stream::once(async move {
                let _given_up = given_up;
                std::future::pending().await
            });
            return Ok(Response::new(stream::iter([Ok(word("first"))]).chain(silence).boxed()));
        }
        let count: u32 = call.into_inner().text.parse().map_err(|_| Status::invalid_argument("not a number"))?;
        let words = stream::iter(0..count).map(|number| Ok(word(number)));
        Ok(Response::new(words.chain(stream::iter([Err(Status::data_loss("that was all"))])).boxed()))
    }

    /// Each word back as it comes.
    async fn chat(call: Request<Streaming<Word>>) -> Result<Response<Words>, Status> {
        Ok(Response::new(call.into_inner().boxed()))
    }

    /// A replica with this service. It ends with the test's runtime.
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Server::builder().add_service(self.clone()).serve_with_incoming(TcpIncoming::from(listener));
        Tasks::new().spawn("gRPC server", async move { serving.await.unwrap() });
        address
    }
}

fn grpc_limits(change: impl FnOnce(&mut Limits)) -> Limits {
    limits(|l| {
        l.protocol = set(Protocol::H2c);
        change(l);
    })
}

/// A client of the service, through the activator.
fn client(rig: &Rig) -> Grpc<Channel> {
    let origin = "http://svc.default".parse().unwrap();
    let to = Endpoint::from_shared(format!("http://{}", rig.addresses[0])).unwrap().origin(origin);
    Grpc::new(to.connect_lazy())
}

fn path(method: &str) -> PathAndQuery {
    format!("/{}/{method}", Echo::NAME).parse().unwrap()
}

async fn unary(client: &mut Grpc<Channel>, call: Request<Word>) -> Result<Response<Word>, Status> {
    client.ready().await.unwrap();
    soon(client.unary(call, path("Unary"), codec())).await
}

/// A call begins while there is no replica; one appears while it waits.
async fn through_a_cold_start<T>(call: impl AsyncFnOnce(Grpc<Channel>) -> T) -> T {
    let rig = Rig::new(grpc_limits(|_| {}), &[]).await;
    let start = async {
        eventually("the call waits", || rig.waiting() == 1).await;
        rig.replicas(&[Echo::default().start().await]).await;
    };
    let (answer, ()) = soon(async { tokio::join!(call(client(&rig)), start) }).await;
    rig.at_rest().await;
    answer
}

#[tokio::test]
async fn a_unary_call_waits_for_the_first_replica() {
    let answer = through_a_cold_start(async |mut client| unary(&mut client, Request::new(word("first"))).await).await;
    let answer = answer.unwrap();
    assert_eq!(answer.get_ref().text, "first");
    assert_eq!(answer.metadata().get("x-kpa-cold").unwrap(), "true");
}

#[tokio::test]
async fn a_stream_of_the_client_waits_for_the_first_replica() {
    // More than may be on its way before anybody reads.
    let words: Vec<_> = (0..200).map(|number| word(format!("{number:01000}"))).collect();
    let expected = words.iter().map(|word| word.text.clone()).collect::<Vec<_>>().join(",");
    let answer = through_a_cold_start(async |mut client| {
        client.ready().await.unwrap();
        client.client_streaming(Request::new(stream::iter(words)), path("Collect"), codec()).await
    })
    .await;
    assert_eq!(answer.unwrap().into_inner().text, expected);
}

#[tokio::test]
async fn a_stream_of_the_server_waits_for_the_first_replica_and_keeps_its_status() {
    let (words, end) = through_a_cold_start(async |mut client| {
        client.ready().await.unwrap();
        let call = client.server_streaming(Request::new(word(1000)), path("Count"), codec());
        let mut answer = call.await.unwrap().into_inner();
        let mut words = Vec::new();
        loop {
            match answer.message().await {
                Ok(Some(word)) => words.push(word.text),
                other => return (words, other),
            }
        }
    })
    .await;
    assert_eq!(words, (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
    let end = end.expect_err("a status after the last word");
    assert_eq!((end.code(), end.message()), (Code::DataLoss, "that was all"));
}

#[tokio::test]
async fn a_conversation_waits_for_the_first_replica_and_goes_to_and_fro() {
    let said = through_a_cold_start(async |mut client| {
        client.ready().await.unwrap();
        let (say, words) = tokio::sync::mpsc::channel(1);
        let words = stream::unfold(words, async |mut words| Some((words.recv().await?, words)));
        say.send(word("hello")).await.unwrap();
        let mut answer = client.streaming(Request::new(words), path("Chat"), codec()).await.unwrap().into_inner();
        let mut said = vec![answer.message().await.unwrap().unwrap().text];
        for text in ["how", "are", "you"] {
            // The next one only after the last was answered: nothing is kept back on the way.
            say.send(word(text)).await.unwrap();
            said.push(answer.message().await.unwrap().unwrap().text);
        }
        drop(say);
        assert_eq!(answer.message().await.unwrap(), None, "the status is OK");
        said
    })
    .await;
    assert_eq!(said, ["hello", "how", "are", "you"]);
}

#[tokio::test]
async fn an_error_arrives_with_its_status_message_and_metadata() {
    let rig = Rig::new(grpc_limits(|_| {}), &[Echo::default().start().await]).await;
    let mut client = client(&rig);
    let error = unary(&mut client, Request::new(word("fail"))).await.expect_err("it was asked to fail");
    assert_eq!((error.code(), error.message()), (Code::FailedPrecondition, "no ü, 100 %"));
    assert_eq!(error.metadata().get("x-why").unwrap(), "asked");
    client.ready().await.unwrap();
    let error = client.unary::<_, Word, _>(Request::new(word("")), path("Nothing"), codec()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "the service's own word for an unknown method");
    rig.at_rest().await;
}

#[tokio::test]
async fn metadata_arrives_both_ways_binary_or_not() {
    let echo = Echo::default();
    let rig = Rig::new(grpc_limits(|_| {}), &[echo.start().await]).await;
    let mut call = Request::new(word("x"));
    call.metadata_mut().insert("x-plain", MetadataValue::from_static("question"));
    call.metadata_mut().append("x-plain", MetadataValue::from_static("again"));
    call.metadata_mut().insert_bin("x-raw-bin", MetadataValue::from_bytes(&[1, 0, 254]));
    let answer = unary(&mut client(&rig), call).await.unwrap();
    let seen = echo.metadata.lock().pop().unwrap();
    assert_eq!(seen.get_all("x-plain").iter().collect::<Vec<_>>(), ["question", "again"]);
    assert_eq!(seen.get_bin("x-raw-bin").unwrap().to_bytes().unwrap().as_ref(), [1, 0, 254]);
    assert_eq!(answer.metadata().get("x-plain").unwrap(), "answer");
    assert_eq!(answer.metadata().get_bin("x-raw-bin").unwrap().to_bytes().unwrap().as_ref(), [0, 255, 13, 10]);
}

#[tokio::test]
async fn a_deadline_is_shorter_by_what_was_waited() {
    const WAITED: Duration = Duration::from_millis(120);
    let echo = Echo::default();
    let rig = Rig::new(grpc_limits(|_| {}), &[]).await;
    let mut call = Request::new(word("x"));
    call.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("50S"));
    let began = tokio::time::Instant::now();
    let start = async {
        eventually("it has waited so long", || rig.waiting() == 1 && began.elapsed() > WAITED).await;
        rig.replicas(&[echo.start().await]).await;
    };
    let mut client = client(&rig);
    let (answer, ()) = tokio::join!(unary(&mut client, call), start);
    answer.unwrap();
    let left = echo.metadata.lock().pop().unwrap().get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
    let (number, unit) = left.split_at(left.len() - 1);
    let number: u64 = number.parse().unwrap();
    let left = match unit {
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => panic!("{left}"),
    };
    assert!(left <= Duration::from_secs(50) - WAITED && left > Duration::from_secs(20), "{left:?}");
}

#[tokio::test]
async fn a_full_queue_and_a_failed_start_are_unavailable() {
    let short = Duration::from_millis(100);
    let rig = Rig::new(grpc_limits(|l| l.queue_depth = set(1)), &[]).await;
    let (mut one, mut other) = (client(&rig), client(&rig));
    {
        let mut held = std::pin::pin!(unary(&mut one, Request::new(word("held"))));
        let refused = tokio::select! {
            answer = &mut held => panic!("nobody could answer: {answer:?}"),
            refused = async {
                eventually("one waits", || rig.waiting() == 1).await;
                unary(&mut other, Request::new(word("refused"))).await
            } => refused.expect_err("there is no room"),
        };
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(refused.message().contains("kpa.dev/queue-depth"), "{refused:?}");
        assert_eq!(refused.metadata().get("retry-after").unwrap(), "1");
    }
    eventually("who gave up has left the queue", || rig.waiting() == 0).await;

    let rig = Rig::new(grpc_limits(|l| l.start_deadline = set(short)), &[]).await;
    let failed = unary(&mut client(&rig), Request::new(word("x"))).await.expect_err("nothing starts");
    assert_eq!(failed.code(), Code::Unavailable, "{failed:?}");
    assert!(failed.message().contains("kpa.dev/start-deadline"), "{failed:?}");
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_at_the_replica_too() {
    let echo = Echo::default();
    let rig = Rig::new(grpc_limits(|_| {}), &[echo.start().await]).await;
    let mut client = client(&rig);
    client.ready().await.unwrap();
    let call = client.server_streaming(Request::new(word("endless")), path("Count"), codec());
    let mut answer = call.await.unwrap().into_inner();
    assert_eq!(answer.message().await.unwrap().unwrap().text, "first");
    assert_eq!((rig.in_flight(), echo.cancelled.load(Relaxed)), (1, false));
    drop(answer);
    eventually("the replica hears of it", || echo.cancelled.load(Relaxed)).await;
    rig.at_rest().await;
    assert_eq!(unary(&mut client, Request::new(word("next"))).await.unwrap().into_inner().text, "next");
}
