//! Facts and poster frames of video and audio, where ffmpeg is there.
