//! The service of one connection: hands requests to the router, and answers those that are refused.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::{HeaderValue, Request, Response, header},
};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::service::TowerToHyperService;

use super::progress::Progress;
use crate::http::request_id;

type Answering = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Infallible>> + Send>>;

/// See the module.
pub(super) struct Service {
    router: TowerToHyperService<Router>,
    peer: SocketAddr,
    progress: Arc<Progress>,
}

impl Service {
    pub(super) fn new(router: Router, peer: SocketAddr, progress: Arc<Progress>) -> Self {
        Self { router: TowerToHyperService::new(router), peer, progress }
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Answering;

    /// hyper calls this as soon as it has parsed a head, before it reads on: what the gate refuses is asked for now, not
    /// when the future is polled.
    fn call(&self, request: Request<Incoming>) -> Answering {
        let refusal = self.progress.request_began();
        let under_way = UnderWay(Arc::clone(&self.progress));
        if let Some(refusal) = refusal {
            let answer = request_id::refuse(refusal);
            return Box::pin(std::future::ready(Ok(
                answer.map(|body| AnswerBody { body, _under_way: under_way })
            )));
        }
        let in_chunks = request.headers().contains_key(header::TRANSFER_ENCODING);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let answer = hyper::service::Service::call(&self.router, request);
        Box::pin(async move {
            let Ok(mut answer) = answer.await;
            if in_chunks {
                // The gate stays open after it: see there.
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer.map(|body| AnswerBody { body, _under_way: under_way }))
        })
    }
}

/// Ends the request when it is dropped: written, or given up.
struct UnderWay(Arc<Progress>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// The body of an answer. hyper drops it when it has taken the last of it.
pub(super) struct AnswerBody {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
