// Derived from docs/api/media.openapi.json by `make generate`.

/** `POST /api/media/avatars` */
export type AvatarsRequest = {
    /** Whose pictures. */
    users: Array<UserId>;
};

/** A chat, direct or group. Also the Kafka record key, which keeps one chat on one partition. */
export type ChatId = string;

/** `POST /api/media/files` */
export type CreateFileRequest = {
    for: FilePurpose;
    name: string;
    sha256?: (string | null);
    /** In bytes, exactly. The messenger has a limit for one file. */
    size: number;
    type: string;
};

/** Why a request was refused. Stable: a client may branch on it. */
export type ErrorCode = ("malformed" | "invalid_argument" | "unauthenticated" | "token_expired" | "permission_denied" | "not_a_member" | "consent_required" | "not_found" | "no_such_file" | "not_configured" | "method_not_allowed" | "unsupported_media_type" | "conflict" | "cursor_expired" | "limit_reached" | "idempotency_conflict" | "too_large" | "rate_limited" | "slow_mode" | "unavailable" | "internal");

/** A file, as the one who uploaded it and those who read it see it. */
export type File = {
    /** A few bytes that stand for a picture until it is there: a thumbhash in base64. */
    blur?: (string | null);
    /** Milliseconds since the epoch. */
    created_at_ms: number;
    /** Of a film or a sound, in milliseconds, where it could be found out. */
    duration_ms?: (number | null);
    for: FilePurpose;
    /** Whether there is a small picture of it. */
    has_thumbnail?: boolean;
    /** Likewise. */
    height?: (number | null);
    id: FileId;
    links?: (FileLinks | null);
    name: string;
    /** Who uploaded it. */
    owner: UserId;
    refused?: (FileRefusal | null);
    /** In bytes. As it was declared, until it is ready: a picture is encoded again, without what the camera wrote into it. */
    size: number;
    state: FileState;
    /** As it was declared, until it is ready: then what its bytes say. */
    type: string;
    upload?: (FileUpload | null);
    /** Of a picture or a film, in pixels. */
    width?: (number | null);
};

/** A file that a user uploaded. It is one file for as long as it lives: what is in it never changes. */
export type FileId = string;

/**
 * Where a file is fetched. The addresses are paths of the messenger, and good for a few minutes and for the caller: whether the caller may
 * read the file is checked each time.
 */
export type FileLinks = {
    /** The file itself. */
    content: string;
    /** Milliseconds since the epoch. `GET` of the file gives other links then. */
    expires_at_ms: number;
    /** A small picture of it. */
    thumbnail?: (string | null);
};

/** What a file is for. It decides who may read it, and does not change. */
export type FilePurpose = ({
    /** Messages of this chat: its members read it once a message has it, and members of chats that it is forwarded to. */
    chat: ChatId;
} | {
    /** The picture of this group or channel: its members read it. It is the chat's once `avatar` of the chat is the id of the file. */
    chat_picture: ChatId;
} | "avatar");

/** Why a file was not taken. */
export type FileRefusal = ("size_mismatch" | "checksum_mismatch" | "type_mismatch" | "unsupported_picture" | "damaged_picture" | "picture_too_large" | "animation_too_long" | "picture_took_too_long" | "too_large_to_scan" | "check_failed");

/** How far a file is. */
export type FileState = ("pending" | "processing" | "ready" | "refused" | "quarantined");

/** How a file is uploaded. The requests go to the object store and carry no token: what they may do is signed in their address. */
export type FileUpload = (WholeUpload | PartsUpload);

/** A small picture of a page, encoded again. A client shows it without asking the site. */
export type LinkPicture = {
    /** A thumbhash in base64. */
    blur: string;
    /** Its bytes in base64. */
    data: string;
    /** Likewise. */
    height: number;
    type: string;
    /** Of the picture that the page has, in pixels. */
    width: number;
};

/** What a page says of itself. */
export type LinkPreview = {
    description?: (string | null);
    picture?: (LinkPicture | null);
    /** The name of the site. */
    site?: (string | null);
    title?: (string | null);
    /** Where the page is, behind all redirects. */
    url: string;
};

/** One page of a list. `next_cursor` is absent on the last page; pass it back as `cursor`. */
export type Page_File = {
    items: Array<{
        /** A few bytes that stand for a picture until it is there: a thumbhash in base64. */
        blur?: (string | null);
        /** Milliseconds since the epoch. */
        created_at_ms: number;
        /** Of a film or a sound, in milliseconds, where it could be found out. */
        duration_ms?: (number | null);
        for: FilePurpose;
        /** Whether there is a small picture of it. */
        has_thumbnail?: boolean;
        /** Likewise. */
        height?: (number | null);
        id: FileId;
        links?: (FileLinks | null);
        name: string;
        /** Who uploaded it. */
        owner: UserId;
        refused?: (FileRefusal | null);
        /** In bytes. As it was declared, until it is ready: a picture is encoded again, without what the camera wrote into it. */
        size: number;
        state: FileState;
        /** As it was declared, until it is ready: then what its bytes say. */
        type: string;
        upload?: (FileUpload | null);
        /** Of a picture or a film, in pixels. */
        width?: (number | null);
    }>;
    next_cursor?: (string | null);
};

/** The requests that upload a file in parts. What was uploaded stays: after an interruption `GET` of the file has what is left. */
export type PartsUpload = {
    /** Milliseconds since the epoch. `GET` of the file gives other requests then. */
    expires_at_ms: number;
    parts: Array<UploadPart>;
};

/** `POST /api/media/previews` */
export type PreviewRequest = {
    /** As it is in a message: `http` or `https`. */
    url: string;
};

/** The body of every refusal, `application/problem+json` (RFC 9457). */
export type Problem = {
    code: ErrorCode;
    /** What is wrong with this request. */
    detail?: (string | null);
    status: number;
    /** Human-readable text, the same for every problem of this code. */
    title: string;
    /** `urn:posthouse:error:<code>` */
    type: string;
};

/** One part of a file. */
export type UploadPart = {
    /** Counted from 1. */
    number: number;
    /** Where it begins in the file, in bytes. */
    offset: number;
    /** In bytes, exactly. */
    size: number;
    /** It is there. */
    uploaded?: boolean;
    /** Where it is sent with `PUT`. The first 64 parts that are missing have one; `GET` of the file has more, once these are uploaded. */
    url?: (string | null);
};

/** A user: the `sub` claim of the tenant's realm. */
export type UserId = string;

/** The request that uploads a whole file. */
export type WholeUpload = {
    /** Milliseconds since the epoch. `GET` of the file gives another request then. */
    expires_at_ms: number;
    /** Headers that it must carry as they are here, beside a `content-length` of exactly `size`. A browser sets that by itself. */
    headers: {
        [name: string]: string;
    };
    /** `PUT` */
    method: string;
    url: string;
};
