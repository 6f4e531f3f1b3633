package docker

import (
	"errors"

	ptypes "github.com/traefik/paerser/types"
	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// Provider is left out of the local build.
type Provider struct{ HTTPClientTimeout ptypes.Duration }

func (*Provider) Init() error { return errors.New("Docker is left out of the local build") }

func (*Provider) Provide(chan<- dynamic.Message, *safe.Pool) error { return nil }

// SwarmProvider is left out as well.
type SwarmProvider struct {
	Provider
	RefreshSeconds ptypes.Duration
}
