use super::*;

/// Takes at most `step` bytes a write, gathered or not.
struct Slow {
    taken: Vec<u8>,
    step: usize,
    gathers: bool,
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let count = buf.len().min(self.step);
        self.taken.extend_from_slice(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        self.gathers
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn what_is_put_in_goes_out_once_and_in_order() {
    let cx = &mut Context::from_waker(std::task::Waker::noop());
    for (sizes, gathers) in [(vec![1, 2], true), (vec![20_000], true), (vec![3, 9000, 5, 20_000], false)] {
        for step in [1, 2, 3, 7, 4096, usize::MAX] {
            let mut slow = Slow { taken: Vec::new(), step, gathers };
            let (mut outbox, mut encoder, mut wanted) = (Outbox::default(), Encoder::Chunked, b"head\r\n".to_vec());
            outbox.begin().extend_from_slice(b"head\r\n");
            for (index, size) in sizes.iter().enumerate() {
                if !outbox.has_room() {
                    assert!(outbox.poll_write(&mut slow, cx).is_ready());
                }
                let content = vec![b'a' + u8::try_from(index).unwrap(); *size];
                wanted.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                wanted.extend_from_slice(&content);
                wanted.extend_from_slice(b"\r\n");
                outbox.put(content.into(), &mut encoder, index + 1 == sizes.len()).unwrap();
            }
            wanted.extend_from_slice(b"0\r\n\r\n");
            assert!(outbox.poll_write(&mut slow, cx).is_ready());
            assert!(outbox.is_empty() && outbox.has_begun() && encoder.is_done());
            assert!(slow.taken == wanted, "{sizes:?} in {step}");
        }
    }
}
