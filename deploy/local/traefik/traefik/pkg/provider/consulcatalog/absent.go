package consulcatalog

import (
	"errors"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// Provider is left out of the local build.
type Provider struct{}

func (*Provider) Init() error { return errors.New("Consul is left out of the local build") }

func (*Provider) Provide(chan<- dynamic.Message, *safe.Pool) error { return nil }

// ProviderBuilder builds nothing.
type ProviderBuilder struct{}

func (*ProviderBuilder) BuildProviders() []*Provider { return []*Provider{{}} }
