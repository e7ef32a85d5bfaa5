//! Serves a component from a program of your own: `cargo run -p fornax --example embed -- hello.wasm`, then Ctrl-C.

use std::{net::TcpListener, path::Path};

use fornax::{Builder, Config, config::SingleOptions};

pub(crate) async fn serve(component: &Path, listener: TcpListener, end: impl Future) -> Result<bool, fornax::Error> {
    let config = Config::single(component, SingleOptions::default())?;
    let server = Builder::from_config(config)?.listeners([listener])?.build().await?;
    end.await;
    Ok(server.drain().await)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let component = std::env::args().nth(1).ok_or("name a component")?;
    serve(component.as_ref(), TcpListener::bind("127.0.0.1:8080")?, tokio::signal::ctrl_c()).await?;
    Ok(())
}
