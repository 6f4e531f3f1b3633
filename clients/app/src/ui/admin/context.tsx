// What the screens of the console may use without being handed it.
import { createContext, useCallback, useContext } from "react";
import type { Admin } from "../../state/admin/admin";
import type { AdminKey } from "../../text/admin";
import type { Texts, Values } from "../../text/texts";

export type AdminPage = { admin: Admin; texts: Texts<AdminKey> };

const AdminContext = createContext<AdminPage | undefined>(undefined);

export const AdminProvider = AdminContext.Provider;

export function useAdminPage(): AdminPage {
    const page = useContext(AdminContext);
    if (!page) throw new Error("there is no console around this component");
    return page;
}

export function useAdmin(): Admin {
    return useAdminPage().admin;
}

/** Returns what says a text of the console in the user's language. */
export function useAdminText(): (key: AdminKey, values?: Values) => string {
    const { texts } = useAdminPage();
    return useCallback((key, values) => texts.of(key, values), [texts]);
}
