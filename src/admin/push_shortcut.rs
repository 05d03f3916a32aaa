//! Pushes to one connection go round the router: matching a path against the patterns of all other routes costs more than
//! the push itself (measured, docs/performance.md). What is not such a push goes on to the router.

use std::future::{ready, Ready};
use std::rc::Rc;

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{forward_ready, Payload, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::Method;
use actix_web::{web, Error, HttpRequest, HttpResponse};
use futures::future::{FutureExt, LocalBoxFuture};

use super::access::Access;
use super::connections_api::push;
use super::Api;
use crate::access::Role;

const PUSH_PREFIX: &str = "/api/v1/connections/";

/// The connection id of `POST /api/v1/connections/{cid}`.
fn pushed_to(request: &ServiceRequest) -> Option<&str> {
    let rest = request.path().strip_prefix(PUSH_PREFIX)?;
    // What is percent-encoded is for the router, which decodes.
    (request.method() == Method::POST && !rest.is_empty() && !rest.contains(['/', '%'])).then_some(rest)
}

/// Answers pushes, hands everything else on.
#[derive(Clone)]
pub struct PushShortcut {
    pub api: web::Data<Api>,
    pub access: Access,
}

impl<S, B> Transform<S, ServiceRequest> for PushShortcut
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Transform = PushService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(PushService { service, shortcut: Rc::new(self.clone()) }))
    }
}

pub struct PushService<S> {
    service: S,
    shortcut: Rc<PushShortcut>,
}

impl<S, B> Service<ServiceRequest> for PushService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        if pushed_to(&request).is_none() {
            let answered = self.service.call(request);
            return async move { Ok(answered.await?.map_into_left_body()) }.boxed_local();
        }
        let shortcut = self.shortcut.clone();
        let (request, payload) = request.into_parts();
        async move {
            let answer = answer(&shortcut, &request, payload).await;
            Ok(ServiceResponse::new(request, answer).map_into_right_body())
        }
        .boxed_local()
    }
}

async fn answer(shortcut: &PushShortcut, request: &HttpRequest, payload: Payload) -> HttpResponse {
    let cid = request.path().strip_prefix(PUSH_PREFIX).unwrap_or_default();
    match shortcut.access.check(request, Role::Publisher) {
        Ok(_caller) => match push(&shortcut.api, cid, payload, request).await {
            Ok(answer) => answer,
            Err(problem) => problem.into(),
        },
        Err(problem) => problem.into(),
    }
}
