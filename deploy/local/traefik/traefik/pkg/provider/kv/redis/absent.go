package redis

import (
	"errors"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// Provider is left out of the local build.
type Provider struct{}

func (*Provider) Init() error { return errors.New("Redis is left out of the local build") }

func (*Provider) Provide(chan<- dynamic.Message, *safe.Pool) error { return nil }
