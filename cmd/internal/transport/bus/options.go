package bus

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/privyseal/privyseal/cmd/internal/transport/pinned"
)

// serverOptions opens one door, for routes (and one for leaves if asked), and
// no monitoring, MQTT, websocket, gateway or stream store. Our own client comes
// through memory. The embedded server opens routes only after a client port,
// so there has to be one: on loopback, with TLS pinned to nobody.
func (b *NATS) serverOptions(cfg Config) (*server.Options, error) {
	o := &server.Options{
		ServerName:       cfg.Site,
		Host:             "127.0.0.1",
		Port:             server.RANDOM_PORT,
		TLSConfig:        pinned.Server(cfg.Identity, pinned.Among()),
		TLSTimeout:       1,
		NoSigs:           true,
		NoSystemAccount:  true,
		MaxPayload:       wireHeader + MaxMessage,
		MaxPending:       maxPending,
		PingInterval:     pingEvery,
		MaxPingsOut:      maxPings,
		WriteDeadline:    writeDeadline,
		MaxClosedClients: 16, // history for a monitoring port that is not there
	}
	mutual := func() *tls.Config {
		return pinned.Mutual(cfg.Identity, func(p pinned.Pin) bool { return (*b.pins.Load())(p) })
	}
	if cfg.Listen != "" || len(cfg.Peers) != 0 {
		listen := cfg.Listen
		if listen == "" {
			// The server solicits routes only while it also listens for them.
			listen = "127.0.0.1:-1"
		}
		host, port, err := splitListen(listen)
		if err != nil {
			return nil, err
		}
		o.Cluster = server.ClusterOpts{
			Name: cfg.Cluster, Host: host, Port: port,
			TLSConfig: mutual(), TLSTimeout: tlsSeconds,
			// Routes come from the ledger, not from what a peer says of others.
			NoAdvertise:  true,
			PoolSize:     -1, // one connection a peer: modest in memory
			PingInterval: pingEvery, MaxPingsOut: maxPings,
			WriteDeadline: writeDeadline,
		}
		// Sealed envelopes do not compress.
		o.Cluster.Compression.Mode = server.CompressionOff
		if o.Routes, err = routesOf(cfg.Peers); err != nil {
			return nil, err
		}
	}
	if cfg.LeafListen != "" {
		host, port, err := splitListen(cfg.LeafListen)
		if err != nil {
			return nil, err
		}
		o.LeafNode = server.LeafNodeOpts{
			Host: host, Port: port, NoAdvertise: true,
			TLSConfig: mutual(), TLSTimeout: tlsSeconds, WriteDeadline: writeDeadline,
		}
		o.LeafNode.Compression.Mode = server.CompressionOff
	}
	for _, hub := range cfg.LeafOf {
		r := &server.RemoteLeafOpts{
			URLs: []*url.URL{{Scheme: "tls", Host: hub.Route}},
			TLS:  true, TLSConfig: mutual(), TLSTimeout: tlsSeconds,
			IgnoreDiscoveredServers: true,
		}
		r.Compression.Mode = server.CompressionOff
		o.LeafNode.Remotes = append(o.LeafNode.Remotes, r)
		o.LeafNode.ReconnectInterval = time.Second
	}
	return o, nil
}

func checkPeers(site string, lists ...[]Peer) error {
	seen := map[string]bool{site: true}
	for _, list := range lists {
		for _, p := range list {
			if err := checkWord(p.Site); err != nil {
				return fmt.Errorf("bus: peer: %w", err)
			}
			if seen[p.Site] {
				return fmt.Errorf("bus: site %q is named twice", p.Site)
			}
			seen[p.Site] = true
			if p.Pin.IsZero() {
				return fmt.Errorf("bus: site %q has no pin", p.Site)
			}
		}
	}
	return nil
}

func routesOf(peers []Peer) ([]*url.URL, error) {
	var routes []*url.URL
	for _, p := range peers {
		if p.Route == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(p.Route); err != nil {
			return nil, fmt.Errorf("bus: route of site %q: %w", p.Site, err)
		}
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: p.Route})
	}
	return routes, nil
}

func splitListen(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("bus: listen address %q: %w", addr, err)
	}
	if port, err = strconv.Atoi(p); err != nil || port > 65535 {
		return "", 0, fmt.Errorf("bus: listen address %q has no valid port", addr)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}
