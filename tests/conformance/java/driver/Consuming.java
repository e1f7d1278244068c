import java.lang.reflect.Method;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.consumer.store.ReadOffsetType;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Push consumers: heartbeat, balance, locks, long polling, stored offsets. */
final class Consuming {
    private Consuming() {
    }

    static void register(Map<String, Driver.Scenario> all) {
        all.put("clustering", Consuming::clustering);
        all.put("broadcasting", Consuming::broadcasting);
        all.put("tag_filter", Consuming::tagFilter);
        all.put("orderly", Consuming::orderly);
        all.put("retry", Consuming::retry);
    }

    private static DefaultMQPushConsumer consumer(Driver driver, String group, String topic, String tags) throws Exception {
        DefaultMQPushConsumer c = new DefaultMQPushConsumer(driver.prefix + "_" + group);
        c.setNamesrvAddr(driver.ns);
        c.setInstanceName(Driver.instance());
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setConsumeThreadMin(2);
        c.setConsumeThreadMax(2);
        c.subscribe(topic, tags);
        return c;
    }

    /** Starts a consumer that says each message under `name` and counts it. */
    private static DefaultMQPushConsumer listening(DefaultMQPushConsumer c, Facts facts, String name, AtomicInteger count) throws Exception {
        c.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt m : messages) {
                facts.message("got", name, m);
                count.incrementAndGet();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        return c;
    }

    private static Set<MessageQueue> owned(DefaultMQPushConsumer c, String topic) {
        Set<MessageQueue> queues = new HashSet<>(c.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet());
        queues.removeIf(q -> !q.getTopic().equals(topic));
        return queues;
    }

    private static void send(Driver driver, String topic, String name, int from, int to) throws Exception {
        for (int i = from; i < to; i++) {
            driver.producer.send(Driver.message(topic, "tag", name + i, name + "-" + i));
        }
    }

    /** Two consumers of a group share four queues; then both leave and a third goes on where they were. */
    private static void clustering(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("cluster", 4);
        AtomicInteger count = new AtomicInteger();
        DefaultMQPushConsumer a = listening(consumer(driver, "cluster", topic, "*"), facts, "a", count);
        DefaultMQPushConsumer b = listening(consumer(driver, "cluster", topic, "*"), facts, "b", count);
        Driver.await("two queues each", () -> owned(a, topic).size() == 2 && owned(b, topic).size() == 2);
        facts.say("balanced", "a", owned(a, topic).size(), "b", owned(b, topic).size());
        send(driver, topic, "first", 0, 40);
        Driver.await("40 messages", () -> count.get() >= 40);
        Driver.await("offsets of 40", () -> progress(a, topic) + progress(b, topic) == 40);
        a.shutdown();
        b.shutdown();
        facts.say("restarted");
        send(driver, topic, "second", 0, 10);
        DefaultMQPushConsumer c = listening(consumer(driver, "cluster", topic, "*"), facts, "c", count);
        Driver.await("10 more messages", () -> count.get() >= 50);
        Driver.await("offsets of 50", () -> progress(c, topic) == 50);
        c.shutdown();
    }

    /** The sum of the next offsets over a consumer's own queues. */
    private static long progress(DefaultMQPushConsumer c, String topic) {
        long sum = 0;
        for (MessageQueue q : owned(c, topic)) {
            sum += Math.max(0, c.getDefaultMQPushConsumerImpl().getOffsetStore().readOffset(q, ReadOffsetType.MEMORY_FIRST_THEN_STORE));
        }
        return sum;
    }

    /** The type of the model lives in another package in 5.x than in 4.x. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    private static void broadcast(DefaultMQPushConsumer c) throws Exception {
        for (Method m : DefaultMQPushConsumer.class.getMethods()) {
            if (m.getName().equals("setMessageModel")) {
                m.invoke(c, Enum.valueOf((Class) m.getParameterTypes()[0], "BROADCASTING"));
            }
        }
    }

    private static void broadcasting(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("broadcast", 2);
        AtomicInteger[] counts = {new AtomicInteger(), new AtomicInteger()};
        DefaultMQPushConsumer[] consumers = new DefaultMQPushConsumer[2];
        for (int i = 0; i < 2; i++) {
            DefaultMQPushConsumer c = consumer(driver, "broadcast", topic, "*");
            broadcast(c);
            consumers[i] = listening(c, facts, i == 0 ? "a" : "b", counts[i]);
        }
        send(driver, topic, "broadcast", 0, 10);
        Driver.await("10 messages each", () -> counts[0].get() >= 10 && counts[1].get() >= 10);
        for (DefaultMQPushConsumer c : consumers) {
            c.shutdown();
        }
    }

    private static void tagFilter(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("tags", 2);
        AtomicInteger count = new AtomicInteger();
        for (int i = 0; i < 12; i++) {
            driver.producer.send(Driver.message(topic, "abc".substring(i % 3, i % 3 + 1), "f" + i, "tags-" + i));
        }
        for (MessageQueue q : driver.queues(topic)) {
            driver.producer.send(Driver.message(topic, "a", "last", "last-" + q.getQueueId()), q);
        }
        DefaultMQPushConsumer c = listening(consumer(driver, "tags", topic, "a || b"), facts, "filter", count);
        Driver.await("8 messages and the last of each queue", () -> count.get() >= 10); // what is wrong would have come before them
        c.shutdown();
    }

    /** Two orderly consumers: each queue is locked by one of them, and its messages come one after another. */
    private static void orderly(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("orderly", 4);
        AtomicInteger count = new AtomicInteger();
        Map<Integer, AtomicInteger> inside = new ConcurrentHashMap<>();
        DefaultMQPushConsumer[] consumers = new DefaultMQPushConsumer[2];
        for (int i = 0; i < 2; i++) {
            String name = i == 0 ? "a" : "b";
            DefaultMQPushConsumer c = consumer(driver, "orderly", topic, "*");
            c.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                for (MessageExt m : messages) {
                    AtomicInteger here = inside.computeIfAbsent(m.getQueueId(), k -> new AtomicInteger());
                    if (here.incrementAndGet() > 1) {
                        facts.say("overlap", "queue", m.getQueueId());
                    }
                    facts.message("got", name, m);
                    here.decrementAndGet();
                    count.incrementAndGet();
                }
                return ConsumeOrderlyStatus.SUCCESS;
            });
            c.start();
            consumers[i] = c;
        }
        Driver.await("two locked queues each", () -> {
            for (DefaultMQPushConsumer c : consumers) {
                c.getDefaultMQPushConsumerImpl().doRebalance(); // a refused lock is asked for again after 20 s otherwise
            }
            Thread.sleep(200);
            return owned(consumers[0], topic).size() == 2 && owned(consumers[1], topic).size() == 2;
        });
        facts.say("balanced", "a", owned(consumers[0], topic).size(), "b", owned(consumers[1], topic).size());
        List<MessageQueue> queues = driver.queues(topic);
        for (int i = 0; i < 40; i++) {
            driver.producer.send(Driver.message(topic, "tag", "o" + i, "q" + i % 4 + "-" + i / 4), queues.get(i % 4));
        }
        Driver.await("40 messages", () -> count.get() >= 40);
        for (DefaultMQPushConsumer c : consumers) {
            c.shutdown();
        }
    }

    /** The first delivery is refused with the shortest delay level; the message must come once more. */
    private static void retry(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("retry", 1);
        AtomicInteger done = new AtomicInteger();
        DefaultMQPushConsumer c = consumer(driver, "retry", topic, "*");
        c.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt m : messages) {
                facts.message("got", "retry", m);
                if (m.getReconsumeTimes() == 0) {
                    context.setDelayLevelWhenNextConsume(1);
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
                done.incrementAndGet();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        send(driver, topic, "retry", 0, 2);
        Driver.await("2 messages twice", () -> {
            // The client learns of its retry topic by polls of 20 and 30 s otherwise.
            c.getDefaultMQPushConsumerImpl().getmQClientFactory().updateTopicRouteInfoFromNameServer("%RETRY%" + c.getConsumerGroup());
            c.getDefaultMQPushConsumerImpl().doRebalance();
            Thread.sleep(300);
            return done.get() >= 2;
        });
        c.shutdown();
    }
}
