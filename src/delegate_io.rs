//! The methods of write traits that a wrapping stream passes on unchanged.
//!
//! Every stream here wraps another one and is interested in few of its operations. tokio's `AsyncWrite` and hyper's
//! `Write` have methods of the same names and signatures, so one macro serves an `impl` of either. The methods compile
//! to what they would be if they were written out.

/// Implements `is_write_vectored`, `poll_flush` and `poll_shutdown` by calling the inner stream.
///
/// Takes two expressions: the inner stream pinned, from a pinned wrapper, and a reference to it, from a reference.
///
/// ```ignore
/// impl<T: Write> Write for Wrapper<T> {
///     // poll_write and poll_write_vectored, which do something of their own
///     delegate_flush_and_shutdown!(|this| this.project().inner, |this| this.inner);
/// }
/// ```
macro_rules! delegate_flush_and_shutdown {
    (|$pinned:ident| $inner:expr, |$shared:ident| $inner_ref:expr) => {
        #[inline]
        fn is_write_vectored(&self) -> bool {
            let $shared = self;
            $inner_ref.is_write_vectored()
        }

        #[inline]
        fn poll_flush(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            let $pinned = self;
            $inner.poll_flush(cx)
        }

        #[inline]
        fn poll_shutdown(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            let $pinned = self;
            $inner.poll_shutdown(cx)
        }
    };
}

pub(crate) use delegate_flush_and_shutdown;
