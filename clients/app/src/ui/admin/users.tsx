// All users of the tenant, by the beginnings of their names.
import { useEffect, useState, type ReactNode } from "react";
import { Field } from "../parts";
import { useAdmin, useAdminText } from "./context";
import { Listed, Screen, useModerators, User } from "./parts";

const PAUSE_MS = 250;

export function UserList(): ReactNode {
    const at = useAdminText();
    const { users } = useAdmin();
    const isModerator = useModerators();
    const [query, setQuery] = useState("");
    useEffect(() => {
        const timer = setTimeout(
            () => void users.open({ query: query.trim(), limit: 50 }),
            query ? PAUSE_MS : 0,
        );
        return () => clearTimeout(timer);
    }, [users, query]);
    return (
        <Screen title={at("screen.users")}>
            <Field
                label={at("findUsers")}
                type="search"
                maxLength={64}
                autoComplete="off"
                value={query}
                onChange={(event) => setQuery(event.target.value)}
            />
            <Listed list={users} empty={at("noUsers")}>
                {({ user_id, deleted }) => (
                    <li key={user_id}>
                        <User id={user_id} />
                        {isModerator(user_id) && <span className="role">{at("moderator")}</span>}
                        {deleted && <span className="role">{at("deleted")}</span>}
                    </li>
                )}
            </Listed>
        </Screen>
    );
}
