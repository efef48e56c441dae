//! The gate between a socket and hyper: it lets one request through at a time, and only after its head was found good.
//!
//! What hyper would answer itself, in a bare line without a body, does not reach it: where a head is refused, hyper is
//! given an empty request in its place, which the service answers with the refusal, in its turn behind the answers before
//! it, and closes. Nothing that follows a refused head is read as a request.
//!
//! A request in chunks is the last of its connection: where it ends, only hyper's decoder knows, so everything passes.
//! The service says `Connection: close` in its answer.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    head::{self, End},
    progress::Progress,
    refusal::Refusal,
};

/// What hyper gets in place of a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

/// How much is read at a time.
const CHUNK: usize = 8 * 1024;

/// What may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Nothing: a head is awaited.
    Shut,
    /// The rest of a request.
    For(u64),
    /// A request in chunks, and nothing after it.
    ForChunks,
    /// The stand-in, from this byte on. Then nothing, for ever.
    ForStandIn(usize),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gate<S> {
    stream: S,
    progress: Arc<Progress>,
    header_limit: usize,
    /// Whether there is room for this connection; if not, its first request is refused.
    admitted: bool,
    open: Open,
    received: Vec<u8>,
    /// How much of `received` has passed.
    passed: usize,
    /// How much of the head in `received` an earlier look has seen.
    looked_at: usize,
    shut_down: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gate<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>, header_limit: usize, admitted: bool) -> Self {
        Self {
            stream,
            progress,
            header_limit,
            admitted,
            open: Open::Shut,
            received: Vec::new(),
            passed: 0,
            looked_at: 0,
            shut_down: false,
        }
    }

    /// Reads once. Gives how many bytes came, 0 at the end.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
        let mut read = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        if self.passed > 0 {
            self.received.drain(..self.passed);
            self.passed = 0;
        }
        self.received.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Looks at what has come of the next head, and opens if it is whole.
    fn look(&mut self) {
        let waiting = &self.received[self.passed..];
        if let Some(refusal) = self.progress.refusal() {
            return self.refuse(refusal);
        }
        if waiting.is_empty() {
            return;
        }
        match head::examine(waiting, &mut self.looked_at, self.header_limit) {
            Some(Ok(_)) if !self.admitted => self.refuse(Refusal::TooManyConnections),
            Some(Ok(end)) => {
                self.looked_at = 0;
                self.open = match end {
                    End::After(bytes) => Open::For(bytes),
                    End::OfChunks => Open::ForChunks,
                };
            }
            Some(Err(refusal)) => self.refuse(refusal),
            None => self.progress.head_began(),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.progress.refuse(refusal);
        self.open = Open::ForStandIn(0);
    }

    /// Hands over what was received, `most` bytes of it at most. Gives how many.
    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>, most: u64) -> usize {
        let waiting = &self.received[self.passed..];
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = waiting.len().min(buffer.remaining()).min(most);
        buffer.put_slice(&waiting[..count]);
        self.passed += count;
        if self.passed == self.received.len() {
            self.passed = 0;
            self.received.clear();
            // A connection that waits must not keep what its largest request took.
            self.received.shrink_to(CHUNK);
        }
        count
    }

    /// Whether the client may have sent, or may be sending, what nobody will read.
    fn leaves_something_unread(&self) -> bool {
        self.open != Open::Shut || !self.received.is_empty()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = &mut *self;
        loop {
            match gate.open {
                Open::ForStandIn(from) => {
                    let rest = &STAND_IN[from..];
                    let count = rest.len().min(buffer.remaining());
                    if count == 0 {
                        // The driver ends the connection; reading on would wake it for nothing.
                        return Poll::Pending;
                    }
                    buffer.put_slice(&rest[..count]);
                    gate.open = Open::ForStandIn(from + count);
                    return Poll::Ready(Ok(()));
                }
                Open::ForChunks if gate.received.is_empty() => {
                    return Pin::new(&mut gate.stream).poll_read(cx, buffer);
                }
                Open::ForChunks => {
                    gate.hand_over(buffer, u64::MAX);
                    return Poll::Ready(Ok(()));
                }
                Open::For(bytes) if !gate.received.is_empty() => {
                    let rest = bytes - gate.hand_over(buffer, bytes) as u64;
                    gate.open = if rest == 0 { Open::Shut } else { Open::For(rest) };
                    return Poll::Ready(Ok(()));
                }
                Open::For(_) => {}
                Open::Shut => {
                    gate.look();
                    if gate.open != Open::Shut {
                        continue;
                    }
                }
            }
            if ready!(gate.receive(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progress.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_pending() {
            self.progress.wrote(false);
        }
        flushed
    }

    /// Says that no more will come, and where the client may still be sending, waits until it has seen that: bytes that
    /// are unread when a socket is closed make the kernel reset the connection, and the client may lose the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = &mut *self;
        gate.progress.closing();
        if !gate.shut_down {
            ready!(Pin::new(&mut gate.stream).poll_shutdown(cx))?;
            gate.shut_down = true;
        }
        while gate.leaves_something_unread() {
            (gate.received, gate.passed) = (Vec::new(), 0);
            if ready!(gate.receive(cx))? == 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
