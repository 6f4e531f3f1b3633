// Finds users by their names. Names may look alike: the username, which cannot, stands beside each.
import type { search } from "@posthouse/client";
import { useEffect, useState, type ReactNode } from "react";
import { UserAvatar } from "./avatar";
import { useText, useWorkspace } from "./context";
import { ErrorText, Field, IconButton, Name } from "./parts";

const PAUSE_MS = 250;

type Props = {
    chosen: readonly search.FoundUser[];
    onChosen: (chosen: search.FoundUser[]) => void;
    except: readonly string[];
};

export function UserPicker({ chosen, onChosen, except }: Props): ReactNode {
    const t = useText();
    const workspace = useWorkspace();
    const [query, setQuery] = useState("");
    const [found, setFound] = useState<search.FoundUser[]>([]);
    const [error, setError] = useState<unknown>();
    useEffect(() => {
        if (query.trim() === "") return setFound([]);
        let isCurrent = true;
        const timer = setTimeout(() => {
            workspace.findUsers(query.trim()).then(
                (users) => {
                    if (!isCurrent) return;
                    setFound(users);
                    setError(undefined);
                },
                (fault: unknown) => isCurrent && setError(fault),
            );
        }, PAUSE_MS);
        return () => {
            isCurrent = false;
            clearTimeout(timer);
        };
    }, [workspace, query]);
    const isHidden = ({ user_id }: search.FoundUser) =>
        except.includes(user_id) || chosen.some((user) => user.user_id === user_id);
    const offered = found.filter((user) => !isHidden(user));
    return (
        <div className="user-picker">
            {chosen.length > 0 && (
                <ul className="chosen" aria-label={t("chosenUsers")}>
                    {chosen.map((user) => (
                        <li key={user.user_id}>
                            <Name text={user.display_name} />
                            <IconButton
                                icon="close"
                                label={t("remove", { name: user.username })}
                                onClick={() =>
                                    onChosen(chosen.filter(({ user_id }) => user_id !== user.user_id))
                                }
                            />
                        </li>
                    ))}
                </ul>
            )}
            <Field
                label={t("findUsers")}
                type="search"
                maxLength={64}
                autoComplete="off"
                autoFocus
                value={query}
                onChange={(event) => setQuery(event.target.value)}
            />
            <ErrorText error={error} />
            <p className="visually-hidden" role="status">
                {query.trim() === "" ? "" : t("foundUsers", { count: offered.length })}
            </p>
            <ul className="users">
                {offered.map((user) => (
                    <li key={user.user_id}>
                        <button
                            type="button"
                            onClick={() => {
                                onChosen([...chosen, user]);
                                setQuery("");
                            }}
                        >
                            <UserAvatar user={user.user_id} name={user.display_name} />
                            <Name text={user.display_name} /> <span className="username">@{user.username}</span>
                        </button>
                    </li>
                ))}
            </ul>
        </div>
    );
}
