// All users of the tenant, by the beginnings of their names.
import { useEffect, useState, type ReactNode } from "react";
import { Field } from "../parts";
import { useAdmin, useAdminText } from "./context";
import { Listed, Screen, User } from "./parts";

const PAUSE_MS = 250;

export function People(): ReactNode {
    const at = useAdminText();
    const { people } = useAdmin();
    const [query, setQuery] = useState("");
    useEffect(() => {
        const timer = setTimeout(
            () => void people.open({ query: query.trim(), limit: 50 }),
            query ? PAUSE_MS : 0,
        );
        return () => clearTimeout(timer);
    }, [people, query]);
    return (
        <Screen title={at("screen.people")}>
            <Field
                label={at("findPeople")}
                type="search"
                maxLength={64}
                autoComplete="off"
                value={query}
                onChange={(event) => setQuery(event.target.value)}
            />
            <Listed list={people} empty={at("noPeople")}>
                {({ user_id, deleted }) => (
                    <li key={user_id}>
                        <User id={user_id} />
                        {deleted && <span className="role">{at("deleted")}</span>}
                    </li>
                )}
            </Listed>
        </Screen>
    );
}
