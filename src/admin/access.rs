//! Who may call: `Authorization: Bearer <token>`, or `X-Api-Key: <token>`. With no token configured every call is an admin's; the settings allow
//! that on loopback addresses only.

use std::future::{ready, Ready};
use std::rc::Rc;

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{forward_ready, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::header::{HeaderMap, AUTHORIZATION};
use actix_web::{Error, HttpMessage, HttpResponse};
use futures::future::{FutureExt, LocalBoxFuture};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// Wins over Authorization, which AWS SDKs fill with a signature of their own.
const API_KEY: &str = "x-api-key";

/// The token that a request shows.
fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get(API_KEY) {
        return key.to_str().ok().map(str::trim);
    }
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The caller's name, the author of the changes it makes.
#[derive(Clone, Debug)]
pub struct Caller(pub &'static str);

/// Checks the token of every request that it wraps.
#[derive(Clone)]
pub struct Access {
    token_hash: Option<[u8; 32]>,
}

impl Access {
    pub fn new(token: Option<&str>) -> Access {
        Access { token_hash: token.map(|token| Sha256::digest(token).into()) }
    }

    /// Who calls, going by the request's headers.
    pub fn check(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(expected) = &self.token_hash else { return Ok(Caller("anonymous")) };
        let Some(presented) = presented(headers) else {
            return Err(Problem::new(
                401,
                "unauthenticated",
                "an admin token is required: Authorization: Bearer <token>",
            ));
        };
        let hash: [u8; 32] = Sha256::digest(presented).into();
        if bool::from(hash.ct_eq(expected)) {
            Ok(Caller("admin"))
        } else {
            Err(Problem::new(401, "unauthenticated", "the admin token is not valid"))
        }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Access
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Transform = AccessService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(AccessService { service: Rc::new(service), access: self.clone() }))
    }
}

pub struct AccessService<S> {
    service: Rc<S>,
    access: Access,
}

impl<S, B> Service<ServiceRequest> for AccessService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B, BoxBody>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        match self.access.check(request.headers()) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                let answered = self.service.call(request);
                async move { Ok(answered.await?.map_into_left_body()) }.boxed_local()
            }
            Err(problem) => {
                let refused = request.into_response(HttpResponse::from(problem)).map_into_right_body();
                ready(Ok(refused)).boxed_local()
            }
        }
    }
}
