// The peer of `make bench`: a server on the Centrifuge library, with the library's own settings, that does what a gateway does.
// It takes records of a topic of Kafka and publishes each to the channel that is its key; a client connects with a token (HS256) that
// names the user and one channel. Publications of channels that begin with "kept:" are kept, and clients that come back recover them.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	// Begins the name of a channel whose publications are kept.
	keptPrefix = "kept:"
	keptSize   = 1000
	keptFor    = 10 * time.Minute
	// A channel with one page of messages, for clients that read a history.
	pageChannel = "page"
)

type claims struct {
	Subject string `json:"sub"`
	Channel string `json:"channel"`
	Expires int64  `json:"exp"`
}

func main() {
	node, err := centrifuge.New(centrifuge.Config{})
	check(err)
	secret := []byte(os.Getenv("TOKEN_SECRET"))
	node.OnConnecting(func(_ context.Context, event centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		claims, err := verify(secret, event.Token)
		if err != nil {
			return centrifuge.ConnectReply{}, centrifuge.DisconnectInvalidToken
		}
		options := centrifuge.SubscribeOptions{EnableRecovery: strings.HasPrefix(claims.Channel, keptPrefix)}
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{UserID: claims.Subject, ExpireAt: claims.Expires},
			Subscriptions: map[string]centrifuge.SubscribeOptions{claims.Channel: options},
		}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnHistory(func(_ centrifuge.HistoryEvent, reply centrifuge.HistoryCallback) {
			reply(centrifuge.HistoryReply{}, nil)
		})
	})
	check(node.Run())
	for _, message := range strings.Split(os.Getenv("PAGE"), "\n") {
		publish(node, pageChannel, []byte(message), true)
	}

	follow(node)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Printf("ready %s\n", listener.Addr())
	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	check(http.Serve(listener, nil))
}

// follow publishes every record that comes after it returns.
func follow(node *centrifuge.Node) {
	topic := os.Getenv("TOPIC")
	mechanism := scram.Auth{User: os.Getenv("KAFKA_USERNAME"), Pass: os.Getenv("KAFKA_PASSWORD")}.AsSha512Mechanism()
	options := []kgo.Opt{kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BOOTSTRAP_SERVERS"), ",")...), kgo.SASL(mechanism)}
	admin, err := kgo.NewClient(options...)
	check(err)
	ends, err := kadm.NewClient(admin).ListEndOffsets(context.Background(), topic)
	check(err)
	check(ends.Error())
	admin.Close()
	consumer, err := kgo.NewClient(append(options, kgo.ConsumePartitions(ends.KOffsets()))...)
	check(err)
	go func() {
		for {
			fetches := consumer.PollFetches(context.Background())
			fetches.EachError(func(topic string, partition int32, err error) { log.Printf("%s/%d: %v", topic, partition, err) })
			var partitions sync.WaitGroup
			fetches.EachPartition(func(partition kgo.FetchTopicPartition) {
				partitions.Add(1)
				go func() {
					defer partitions.Done()
					partition.EachRecord(func(record *kgo.Record) {
						channel := string(record.Key)
						publish(node, channel, record.Value, strings.HasPrefix(channel, keptPrefix))
					})
				}()
			})
			partitions.Wait()
		}
	}()
}

func publish(node *centrifuge.Node, channel string, data []byte, isKept bool) {
	var options []centrifuge.PublishOption
	if isKept {
		options = append(options, centrifuge.WithHistory(keptSize, keptFor))
	}
	_, err := node.Publish(channel, data, options...)
	check(err)
}

// verify returns the claims of a token that was signed with the secret and has not expired.
func verify(secret []byte, token string) (claims, error) {
	var found claims
	signed, signature, _ := cutLast(token, ".")
	_, payload, isToken := strings.Cut(signed, ".")
	given, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !isToken {
		return found, fmt.Errorf("no token: %v", err)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	if !hmac.Equal(mac.Sum(nil), given) {
		return found, fmt.Errorf("signed with another secret")
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return found, err
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return found, err
	}
	if found.Expires < time.Now().Unix() {
		return found, fmt.Errorf("expired")
	}
	return found, nil
}

func cutLast(text, separator string) (before, after string, isFound bool) {
	at := strings.LastIndex(text, separator)
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at+len(separator):], true
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
