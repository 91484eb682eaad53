//! Fences: a change of a namespace is in force everywhere once what began before it has ended.

/// The fences that wait, and the order in which requests begin.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    begun: u64,
    waiting: Vec<Fence>,
}

#[derive(Debug)]
struct Fence {
    token: u64,
    nsid: u32,
    /// Requests that began before this count.
    before: u64,
    /// How many of them are unanswered.
    remaining: usize,
}

impl Fences {
    /// A request begins; what it returns goes to [`Self::on_end`].
    pub(crate) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun - 1
    }

    /// A fence behind the `remaining` requests of the namespace that are unanswered now. True if there is none.
    pub(crate) fn raise(&mut self, token: u64, nsid: u32, remaining: usize) -> bool {
        if remaining == 0 {
            return true;
        }
        self.waiting.push(Fence { token, nsid, before: self.begun, remaining });
        false
    }

    /// A request of the namespace ended. Appends the tokens of fences that waited for it alone.
    pub(crate) fn on_end(&mut self, nsid: u32, begun: u64, mut passed: impl FnMut(u64)) {
        if self.waiting.is_empty() {
            return;
        }
        for fence in &mut self.waiting {
            if fence.nsid == nsid && begun < fence.before {
                fence.remaining -= 1;
            }
        }
        self.waiting.retain(|fence| {
            if fence.remaining == 0 {
                passed(fence.token);
            }
            fence.remaining > 0
        });
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_fence_waits_for_what_began_before_it_and_for_nothing_else() {
        let mut fences = Fences::default();
        let first = fences.begin();
        let other_namespace = fences.begin();
        assert!(!fences.raise(7, 1, 1));
        let later = fences.begin();
        let mut passed = Vec::new();
        fences.on_end(1, later, |token| passed.push(token));
        fences.on_end(2, other_namespace, |token| passed.push(token));
        assert!(passed.is_empty());
        fences.on_end(1, first, |token| passed.push(token));
        assert_eq!(passed, [7]);
        assert!(fences.raise(8, 1, 0));
    }
}
