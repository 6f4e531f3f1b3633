import { Component, type ReactNode } from "react";

type BoundaryProps = { children: ReactNode; fallback: ReactNode };

/** Shows something else where a component fails: a fault here takes nothing of the rest of the page with it. */
export class Boundary extends Component<BoundaryProps, { hasFailed: boolean }> {
    override state = { hasFailed: false };

    static getDerivedStateFromError(): { hasFailed: boolean } {
        return { hasFailed: true };
    }

    override render(): ReactNode {
        return this.state.hasFailed ? this.props.fallback : this.props.children;
    }
}
