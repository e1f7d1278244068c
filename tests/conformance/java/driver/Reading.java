import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.FutureTask;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Readers that name a queue and an offset themselves, and the look-ups by time, id and key. */
final class Reading {
    private Reading() {
    }

    static void register(Map<String, Driver.Scenario> all) {
        all.put("pull", Reading::pull);
        all.put("lite_pull", Reading::litePull);
        all.put("time_offsets", Reading::timeOffsets);
        all.put("lookup", Reading::lookup);
    }

    /** Says every message of a topic, queue by queue, once `expected` of them can be read. */
    static void readBack(Driver driver, Facts facts, String topic, int expected) throws Exception {
        DefaultMQPullConsumer reader = puller(driver, "readback_" + topic);
        List<MessageExt> seen = new ArrayList<>();
        try {
            Driver.await(expected + " messages in " + topic, () -> {
                seen.clear();
                for (MessageQueue q : reader.fetchSubscribeMessageQueues(topic)) {
                    long at = reader.minOffset(q);
                    while (true) {
                        PullResult r = reader.pull(q, "*", at, 32);
                        if (r.getPullStatus() != PullStatus.FOUND) {
                            break;
                        }
                        seen.addAll(r.getMsgFoundList());
                        at = r.getNextBeginOffset();
                    }
                }
                return seen.size() >= expected;
            });
        } finally {
            for (MessageExt m : seen) {
                facts.message("stored", "pull", m);
            }
            reader.shutdown();
        }
    }

    private static DefaultMQPullConsumer puller(Driver driver, String group) throws MQClientException {
        DefaultMQPullConsumer c = new DefaultMQPullConsumer(driver.prefix + "_" + group);
        c.setNamesrvAddr(driver.ns);
        c.setInstanceName(Driver.instance());
        c.start();
        return c;
    }

    /** One queue pulled by hand: found, end of queue, beyond the end, a held pull that a new message wakes, and stored offsets. */
    private static void pull(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("pull", 1);
        MessageQueue q = driver.queues(topic).get(0);
        for (int i = 0; i < 10; i++) {
            Sending.sent(facts, "sync", "pull-" + i, driver.producer.send(Driver.message(topic, i % 2 == 0 ? "even" : "odd", "p" + i, "pull-" + i)));
        }
        DefaultMQPullConsumer c = puller(driver, "pull");
        Driver.await("ten messages", () -> c.maxOffset(q) == 10);
        pulled(facts, "all", c.pull(q, "*", 0, 32));
        pulled(facts, "three", c.pull(q, "*", 4, 3));
        pulled(facts, "odd", c.pull(q, "odd", 0, 32));
        pulled(facts, "none_match", c.pull(q, "no_such_tag", 0, 32));
        pulled(facts, "at_end", c.pull(q, "*", 10, 32));
        pulled(facts, "beyond_end", c.pull(q, "*", 1000, 32));
        FutureTask<PullResult> held = new FutureTask<>(() -> c.pullBlockIfNotFound(q, "*", 10, 32));
        long start = System.currentTimeMillis();
        new Thread(held).start();
        Thread.sleep(300); // not a guard: were the message sent too early, the pull would not be held and still be right
        driver.producer.send(Driver.message(topic, "even", "wake", "wake"));
        PullResult woken = held.get();
        facts.say("held", "ms", System.currentTimeMillis() - start);
        pulled(facts, "woken", woken);
        facts.say("offset", "what", "none", "value", c.fetchConsumeOffset(q, true));
        c.getDefaultMQPullConsumerImpl().getOffsetStore().updateConsumeOffsetToBroker(q, 7, false);
        Driver.await("the offset", () -> c.fetchConsumeOffset(q, true) == 7);
        facts.say("offset", "what", "stored", "value", c.fetchConsumeOffset(q, true));
        facts.say("offset", "what", "min", "value", c.minOffset(q));
        facts.say("offset", "what", "max", "value", c.maxOffset(q));
        c.shutdown();
    }

    private static void pulled(Facts facts, String what, PullResult r) {
        facts.say("pulled", "what", what, "status", r.getPullStatus().name(), "next", r.getNextBeginOffset(), "min", r.getMinOffset(),
            "max", r.getMaxOffset(), "count", r.getMsgFoundList() == null ? 0 : r.getMsgFoundList().size());
        if (r.getMsgFoundList() != null) {
            for (MessageExt m : r.getMsgFoundList()) {
                facts.message("got", what, m);
            }
        }
    }

    /** Assigned queues, a seek back into the middle, a commit. */
    private static void litePull(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("lite", 1);
        for (int i = 0; i < 10; i++) {
            driver.producer.send(Driver.message(topic, "tag", "l" + i, "lite-" + i));
        }
        DefaultLitePullConsumer c = new DefaultLitePullConsumer(driver.prefix + "_lite");
        c.setNamesrvAddr(driver.ns);
        c.setInstanceName(Driver.instance());
        c.setAutoCommit(false);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.start();
        List<MessageQueue> queues = new ArrayList<>(c.fetchMessageQueues(topic));
        c.assign(queues);
        polled(facts, "from_start", c, 10);
        c.seek(queues.get(0), 3); // back, when nothing is under way any more: a seek does not recall a pull
        polled(facts, "from_three", c, 7);
        c.commitSync();
        Driver.await("the commit", () -> c.committed(queues.get(0)) >= 10);
        facts.say("offset", "what", "committed", "value", c.committed(queues.get(0)));
        c.shutdown();
    }

    private static void polled(Facts facts, String how, DefaultLitePullConsumer c, int expected) throws Exception {
        List<MessageExt> seen = new ArrayList<>();
        Driver.await(expected + " messages " + how, () -> {
            seen.addAll(c.poll(200));
            return seen.size() >= expected;
        });
        for (MessageExt m : seen) {
            facts.message("got", how, m);
        }
    }

    /** Five messages, a moment, five more: a time names the first message stored at or after it. */
    private static void timeOffsets(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("time", 1);
        MessageQueue q = driver.queues(topic).get(0);
        for (int i = 0; i < 10; i++) {
            if (i == 5) {
                Thread.sleep(50); // makes two times that differ, waits for nothing
            }
            driver.producer.send(Driver.message(topic, "tag", "t" + i, "time-" + i));
        }
        DefaultMQPullConsumer c = puller(driver, "time");
        Driver.await("ten messages", () -> c.maxOffset(q) == 10);
        List<MessageExt> stored = c.pull(q, "*", 0, 32).getMsgFoundList();
        for (MessageExt m : stored) {
            facts.message("stored", "pull", m);
        }
        facts.say("searched", "what", "long_ago", "offset", c.searchOffset(q, 1000));
        facts.say("searched", "what", "sixth", "offset", c.searchOffset(q, stored.get(5).getStoreTimestamp()));
        facts.say("searched", "what", "before_sixth", "offset", c.searchOffset(q, stored.get(5).getStoreTimestamp() - 20));
        facts.say("searched", "what", "future", "offset", c.searchOffset(q, System.currentTimeMillis() + 100_000));
        facts.say("earliest", "time", c.earliestMsgStoreTime(q));
        c.shutdown();
    }

    /** One message by its offset id, by its unique key, and by a key of the user's. */
    private static void lookup(Driver driver, Facts facts) throws Exception {
        String topic = driver.createTopic("lookup", 2);
        long begin = System.currentTimeMillis() - 60_000;
        SendResult r = null;
        for (int i = 0; i < 3; i++) {
            r = driver.producer.send(Driver.message(topic, "tag", "needle hay" + i, "lookup-" + i));
            Sending.sent(facts, "sync", "lookup-" + i, r);
        }
        String id = r.getMsgId();
        String offsetId = r.getOffsetMsgId();
        DefaultMQPullConsumer c = puller(driver, "lookup");
        facts.message("found", "offset_id", retry(() -> c.viewMessage(topic, offsetId)));
        facts.message("found", "unique_key", retry(() -> c.viewMessage(topic, id)));
        QueryResult byKey = retry(() -> {
            QueryResult q = driver.producer.queryMessage(topic, "needle", 32, begin, System.currentTimeMillis() + 60_000);
            return q.getMessageList().size() < 3 ? null : q;
        });
        for (MessageExt m : byKey.getMessageList()) {
            facts.message("found", "key", m);
        }
        QueryResult one = retry(() -> driver.producer.queryMessage(topic, "hay1", 32, begin, System.currentTimeMillis() + 60_000));
        for (MessageExt m : one.getMessageList()) {
            facts.message("found", "one_key", m);
        }
        try {
            QueryResult none = driver.producer.queryMessage(topic, "no_such_key", 32, begin, System.currentTimeMillis() + 60_000);
            facts.say("none", "count", none.getMessageList().size());
        } catch (MQClientException e) {
            facts.say("none", "count", 0, "code", e.getResponseCode());
        }
        c.shutdown();
    }

    /** The index is written behind the log: an answer may come a moment later. */
    private static <T> T retry(Callable<T> look) throws Exception {
        List<T> found = new ArrayList<>();
        List<Exception> last = new ArrayList<>();
        try {
            Driver.await("a look-up", () -> {
                try {
                    T t = look.call();
                    if (t != null) {
                        found.add(t);
                    }
                    return t != null;
                } catch (Exception e) {
                    last.clear();
                    last.add(e);
                    return false;
                }
            });
        } catch (IllegalStateException e) {
            throw last.isEmpty() ? e : last.get(0);
        }
        return found.get(0);
    }
}
