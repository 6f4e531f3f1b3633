//! Pictures: bounds before decoding, metadata stripped, orientation applied, thumbnails and blurs.
