package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// settings of a server, checked.
type settings struct {
	nodeIPs        []netip.Addr
	clusterCIDRs   []netip.Prefix
	serviceCIDRs   []netip.Prefix
	clusterDNS     []netip.Addr
	kubeconfigMode os.FileMode
	kubeletArgs    []string
	tlsSANs        []string
	disabled       []string
	token          string

	flannelIPv6Masq      bool
	disableCloud         bool
	disableNetworkPolicy bool
}

// flag is one of k3s's. A switch has no value.
type flag struct {
	name string
	set  func(*settings, string) error
	on   func(*settings)
}

// serverFlags are all that the stand-in knows; any other is refused, because it would be without effect.
var serverFlags = []flag{
	{name: "node-ip", set: func(s *settings, value string) (err error) {
		s.nodeIPs, err = list(value, netip.ParseAddr)
		return err
	}},
	{name: "cluster-cidr", set: func(s *settings, value string) (err error) {
		s.clusterCIDRs, err = list(value, netip.ParsePrefix)
		return err
	}},
	{name: "service-cidr", set: func(s *settings, value string) (err error) {
		s.serviceCIDRs, err = list(value, netip.ParsePrefix)
		return err
	}},
	{name: "cluster-dns", set: func(s *settings, value string) (err error) {
		s.clusterDNS, err = list(value, netip.ParseAddr)
		return err
	}},
	{name: "write-kubeconfig-mode", set: func(s *settings, value string) error {
		mode, err := strconv.ParseUint(value, 8, 9)
		s.kubeconfigMode = os.FileMode(mode)
		return err
	}},
	{name: "kubelet-arg", set: func(s *settings, value string) error {
		s.kubeletArgs = append(s.kubeletArgs, "--"+strings.TrimPrefix(value, "--"))
		return nil
	}},
	{name: "tls-san", set: func(s *settings, value string) error {
		s.tlsSANs = append(s.tlsSANs, strings.Split(value, ",")...)
		return nil
	}},
	{name: "disable", set: func(s *settings, value string) error {
		for _, component := range strings.Split(value, ",") {
			if !slices.Contains(components, component) {
				return fmt.Errorf("no component %q; there are %s", component, strings.Join(components, ", "))
			}
			s.disabled = append(s.disabled, component)
		}
		return nil
	}},
	{name: "token", set: func(s *settings, value string) error {
		s.token = value
		return nil
	}},
	{name: "token-file", set: func(s *settings, value string) error {
		content, err := os.ReadFile(value)
		s.token = strings.TrimSpace(string(content))
		return err
	}},
	{name: "flannel-ipv6-masq", on: func(s *settings) { s.flannelIPv6Masq = true }},
	{name: "disable-cloud-controller", on: func(s *settings) { s.disableCloud = true }},
	{name: "disable-network-policy", on: func(s *settings) { s.disableNetworkPolicy = true }},
}

// components are k3s's. The stand-in has CoreDNS of them.
var components = []string{"coredns", "servicelb", "traefik", "local-storage", "metrics-server"}

func parseServer(arguments []string, environment func(string) (string, bool)) (*settings, error) {
	parsed := &settings{
		clusterCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")},
		serviceCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")},
		clusterDNS:     []netip.Addr{netip.MustParseAddr("10.43.0.10")},
		kubeconfigMode: 0o600,
	}
	for _, variable := range []struct{ name, flag string }{{"K3S_TOKEN", "token"}, {"K3S_TOKEN_FILE", "token-file"}} {
		if value, set := environment(variable.name); set && value != "" {
			if err := parsed.apply(variable.flag, value, true, nil); err != nil {
				return nil, fmt.Errorf("%s: %w", variable.name, err)
			}
		}
	}
	for len(arguments) > 0 {
		argument := arguments[0]
		arguments = arguments[1:]
		name, isFlag := strings.CutPrefix(argument, "--")
		if !isFlag {
			return nil, fmt.Errorf("%q is not a flag", argument)
		}
		name, value, attached := strings.Cut(name, "=")
		if err := parsed.apply(name, value, attached, &arguments); err != nil {
			return nil, fmt.Errorf("--%s: %w", name, err)
		}
	}
	return parsed, parsed.check()
}

func (s *settings) apply(name, value string, attached bool, rest *[]string) error {
	index := slices.IndexFunc(serverFlags, func(known flag) bool { return known.name == name })
	if index < 0 {
		return errors.New("the stand-in for k3s does not know this flag")
	}
	known := serverFlags[index]
	if known.on != nil {
		if attached && value != "true" {
			return fmt.Errorf("%q is not a value of it", value)
		}
		known.on(s)
		return nil
	}
	if !attached {
		if len(*rest) == 0 {
			return errors.New("a value is missing")
		}
		value, *rest = (*rest)[0], (*rest)[1:]
	}
	return known.set(s, value)
}

// check refuses what k3s would do and the stand-in cannot, so that nothing is lacking in silence.
func (s *settings) check() error {
	if len(s.nodeIPs) == 0 {
		return errors.New("--node-ip is needed: the stand-in for k3s looks for no address by itself")
	}
	for _, missing := range []struct {
		absent bool
		flag   string
		what   string
	}{
		{!s.disableCloud, "--disable-cloud-controller", "cloud controller"},
		{!s.disableNetworkPolicy, "--disable-network-policy", "network policy controller"},
		{!slices.Contains(s.disabled, "traefik"), "--disable traefik", "Traefik"},
		{!slices.Contains(s.disabled, "servicelb"), "--disable servicelb", "ServiceLB"},
		{!s.flannelIPv6Masq && len(s.clusterCIDRs) > 1, "--flannel-ipv6-masq", "masquerading of IPv4 alone"},
	} {
		if missing.absent {
			return fmt.Errorf("%s is needed: the stand-in for k3s has no %s", missing.flag, missing.what)
		}
	}
	for name, families := range map[string]int{
		"--node-ip": len(s.nodeIPs), "--service-cidr": len(s.serviceCIDRs), "--cluster-dns": len(s.clusterDNS),
	} {
		if families != len(s.clusterCIDRs) {
			return fmt.Errorf("%s has %d entries, --cluster-cidr %d", name, families, len(s.clusterCIDRs))
		}
	}
	return nil
}

func list[T any](value string, parse func(string) (T, error)) ([]T, error) {
	var parsed []T
	for _, item := range strings.Split(value, ",") {
		one, err := parse(item)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, one)
	}
	return parsed, nil
}

// joined is a list as Kubernetes' flags take it.
func joined[T fmt.Stringer](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, ",")
}
