//! The methods of read and write traits that a wrapping stream passes on to the stream inside it.
//!
//! Every stream of this crate wraps another one and is interested in few of its operations. tokio's `AsyncRead` and
//! `AsyncWrite` and hyper's `Read` and `Write` have methods of the same names, and of the same signatures except for the
//! buffer of a read, so one macro serves an `impl` of either. The methods compile to what they would be if they were
//! written out.
//!
//! A wrapper describes where its inner stream is with two expressions in the form of closures: the pinned stream, from
//! the pinned wrapper, and a reference to the stream, from a reference. An enum whose variants are streams, all of them
//! `Unpin`, lists its variants instead.

/// Implements `poll_read` by calling the inner stream.
///
/// ```ignore
/// impl<T: Read> Read for Wrapper<T> {
///     delegate_read!(ReadBufCursor<'_>, |this| this.project().inner);
/// }
/// ```
#[cfg(any(feature = "tls", feature = "tonic"))]
macro_rules! delegate_read {
    ($buf:ty, $($stream:tt)+) => {
        #[inline]
        fn poll_read(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            buf: $buf,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            $crate::delegate_io::call_pinned!(self.poll_read(cx, buf), $($stream)+)
        }
    };
}

/// Implements all methods of a write trait by calling the inner stream.
///
/// ```ignore
/// impl<T: Write> Write for Wrapper<T> {
///     delegate_write!(|this| this.project().inner, |this| this.inner);
/// }
///
/// impl<T: Write + Unpin> Write for Either<T> {
///     delegate_write!(enum { Either::This, Either::That });
/// }
/// ```
#[cfg(any(feature = "proxy", feature = "tls"))]
macro_rules! delegate_write {
    ($($stream:tt)+) => {
        #[inline]
        fn poll_write(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            buf: &[u8],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            $crate::delegate_io::call_pinned!(self.poll_write(cx, buf), $($stream)+)
        }

        #[inline]
        fn poll_write_vectored(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            bufs: &[::std::io::IoSlice<'_>],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            $crate::delegate_io::call_pinned!(self.poll_write_vectored(cx, bufs), $($stream)+)
        }

        $crate::delegate_io::delegate_flush_and_shutdown!($($stream)+);
    };
}

/// Implements `poll_write` and `poll_write_vectored` by calling one function for both. It gets the pinned wrapper, and a
/// closure that writes to the inner stream.
///
/// ```ignore
/// impl<T> Wrapper<T> {
///     fn checked_write(
///         self: Pin<&mut Self>,
///         write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<usize>>,
///     ) -> Poll<io::Result<usize>> {
///         // something of its own, and then
///         write(self.project().inner)
///     }
/// }
///
/// impl<T: Write> Write for Wrapper<T> {
///     intercept_write!(Self::checked_write);
///     delegate_flush_and_shutdown!(|this| this.project().inner, |this| this.inner);
/// }
/// ```
macro_rules! intercept_write {
    ($intercept:path) => {
        #[inline]
        fn poll_write(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            buf: &[u8],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            $intercept(self, |inner| inner.poll_write(cx, buf))
        }

        #[inline]
        fn poll_write_vectored(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
            bufs: &[::std::io::IoSlice<'_>],
        ) -> ::std::task::Poll<::std::io::Result<usize>> {
            $intercept(self, |inner| inner.poll_write_vectored(cx, bufs))
        }
    };
}

/// Implements `is_write_vectored`, `poll_flush` and `poll_shutdown` by calling the inner stream.
macro_rules! delegate_flush_and_shutdown {
    ($($stream:tt)+) => {
        #[inline]
        fn is_write_vectored(&self) -> bool {
            $crate::delegate_io::call_shared!(self.is_write_vectored(), $($stream)+)
        }

        #[inline]
        fn poll_flush(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            $crate::delegate_io::call_pinned!(self.poll_flush(cx), $($stream)+)
        }

        #[inline]
        fn poll_shutdown(
            self: ::std::pin::Pin<&mut Self>,
            cx: &mut ::std::task::Context<'_>,
        ) -> ::std::task::Poll<::std::io::Result<()>> {
            $crate::delegate_io::call_pinned!(self.poll_shutdown(cx), $($stream)+)
        }
    };
}

/// Calls a method of the pinned inner stream.
macro_rules! call_pinned {
    ($this:ident.$method:ident $args:tt, |$pinned:ident| $inner:expr $(, |$shared:ident| $inner_ref:expr)?) => {{
        let $pinned = $this;
        $inner.$method $args
    }};
    ($this:ident.$method:ident $args:tt, enum { $($variant:path),+ }) => {
        match $this.get_mut() {
            $($variant(stream) => ::std::pin::Pin::new(stream).$method $args),+
        }
    };
}

/// Calls a method of the inner stream by reference.
macro_rules! call_shared {
    ($this:ident.$method:ident $args:tt, |$pinned:ident| $inner:expr, |$shared:ident| $inner_ref:expr) => {{
        let $shared = $this;
        $inner_ref.$method $args
    }};
    ($this:ident.$method:ident $args:tt, enum { $($variant:path),+ }) => {
        match $this {
            $($variant(stream) => stream.$method $args),+
        }
    };
}

#[cfg(any(feature = "tls", feature = "tonic"))]
pub(crate) use delegate_read;
#[cfg(any(feature = "proxy", feature = "tls"))]
pub(crate) use delegate_write;
pub(crate) use {call_pinned, call_shared, delegate_flush_and_shutdown, intercept_write};
