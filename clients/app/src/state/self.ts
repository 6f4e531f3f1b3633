// The user's own profile, with the settings that no one else sees.
import { account, files, type auth, type Identity, type user } from "@posthouse/client";
import type { Avatars } from "./avatars";
import { Source } from "../shared/source";
import type { Users } from "./users";

export class Self extends Source {
    profile: user.OwnProfile;
    /** What shows what is erased of an account that was deleted on this page. */
    receipt: string | undefined;
    readonly #identity: Identity;
    readonly #users: Users;
    readonly #avatars: Avatars;

    constructor(identity: Identity, profile: user.OwnProfile, users: Users, avatars: Avatars) {
        super();
        this.#identity = identity;
        this.#users = users;
        this.#avatars = avatars;
        this.profile = profile;
        users.take(profile);
    }

    /** The profile as the messenger has it now. */
    take(profile: user.OwnProfile): void {
        this.profile = profile;
        this.#users.take(profile);
        this.changed();
    }

    /** Changes the profile; absent fields stay. */
    async update(request: user.UpdateProfileRequest): Promise<void> {
        this.take(await account.updateProfile(this.#identity, request));
    }

    /** Shows another picture to everyone. Throws a `FileError` when the messenger does not take it. */
    async setPicture(picture: File): Promise<void> {
        const before = await this.#picture();
        await files.upload(this.#identity, "avatar", picture, picture.name);
        this.#avatars.renew({ user: this.#identity.user });
        // The last one counts: one of before would be there again when that is removed.
        if (before !== undefined) await files.deleteFile(this.#identity, before);
    }

    async removePicture(): Promise<void> {
        const picture = await this.#picture();
        if (picture !== undefined) await files.deleteFile(this.#identity, picture);
        this.#avatars.renew({ user: this.#identity.user });
    }

    /** Deletes the account, for good. */
    async delete(password: string): Promise<void> {
        const { receipt }: auth.AccountDeleted = await account.deleteAccount(
            this.#identity,
            this.profile.username,
            password,
        );
        this.receipt = receipt;
        this.changed("at once");
    }

    async #picture(): Promise<string | undefined> {
        const [picture] = await files.avatars(this.#identity, [this.#identity.user]);
        return picture?.id;
    }
}
