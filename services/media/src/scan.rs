//! Scans of files by a daemon that speaks the protocol of ClamAV.
